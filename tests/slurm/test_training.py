"""A training of the two-atom cell of NaCl through profiles/slurm, whose launcher is killed while labels are made."""

import os
import shutil
import signal

import yaml
from train.conftest import TRAINING

from .conftest import wait_until

PROGRAM = "scripts/train.py"


def test_a_training_goes_on_after_its_launcher_was_killed(new_campaign, cluster, root):
    campaign = new_campaign("training")
    campaign.add("NaCl", "structures/NaCl.cif")
    shutil.copytree(root / "tests/train/data/pseudo", campaign.folder / "pseudo")
    campaign.config["training"] = yaml.safe_load(yaml.safe_dump(TRAINING))

    def jobs(rule: str) -> list[tuple[str, str]]:
        """Number and state of the jobs of a rule."""
        return [(job, state) for job, _, state, comment in cluster.jobs() if rule in comment]

    first = campaign.launch(program=PROGRAM)
    wait_until(lambda: any(state == "RUNNING" for _, state in jobs("train_label")), "labels are made", said=campaign.said)
    os.killpg(first.pid, signal.SIGKILL)
    second = campaign.launch(program=PROGRAM)
    assert campaign.finish(second) == 0, campaign.said()
    said = campaign.text.read_text()
    assert "The earlier launch" in said and "Registered as nacl" in said, said
    entries = yaml.safe_load((campaign.folder / "config/models.yaml").read_text())
    assert "nacl" in entries["force"] and "nacl" in entries["alpha"]
    for rule, node in (("train_sample", "gpu"), ("train_label", "cpu"), ("train_fit", "gpu"), ("train_validate", "gpu")):
        ended = [job for job, state in jobs(rule) if state == "COMPLETED"]
        assert ended and all(cluster.nodes_of(job)[0].startswith(node) for job in ended), rule
