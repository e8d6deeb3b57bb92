"""A training of the two-atom cell of NaCl through profiles/slurm, whose launcher was killed while labels were made."""

import yaml


def test_a_training_goes_on_after_its_launcher_was_killed(training, cluster):
    code, said = training.end()
    assert code == 0, said
    said = training.campaign.text.read_text()
    assert "The earlier launch" in said and "Registered as nacl" in said, said
    entries = yaml.safe_load((training.campaign.folder / "config/models.yaml").read_text())
    assert "nacl" in entries["force"] and "nacl" in entries["alpha"]
    for rule, node in (("train_sample", "gpu"), ("train_label", "cpu"), ("train_fit", "gpu"), ("train_validate", "gpu")):
        ended = [job for job, state in training.jobs(rule) if state == "COMPLETED"]
        assert ended and all(cluster.nodes_of(job)[0].startswith(node) for job in ended), rule
