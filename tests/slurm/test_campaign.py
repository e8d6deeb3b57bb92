"""A campaign of two candidates through profiles/slurm, from the table to the ranking, and the probe before it."""

import json

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def two(new_campaign):
    """Two candidates, launched once."""
    campaign = new_campaign("two")
    campaign.add("one", "structures/NaCl.cif")
    campaign.add("two", "structures/NaCl.cif", overrides="dynamics.seed=2")
    campaign.code = campaign.finish(campaign.launch())
    return campaign


def test_the_probe_is_a_job_on_a_gpu_node(new_campaign, cluster):
    campaign = new_campaign("probe")
    campaign.add("one", "structures/NaCl.cif")
    campaign.write()
    done = campaign.run("--probe", "--seconds", "5", "--profile", "profile", program="scripts/check.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shared folder: seen" in done.stdout and "Time on cpu" in done.stdout
    probes = [(job, state) for job, _, state, comment in cluster.jobs() if "probe" in comment]
    ((job, state),) = [(job, state) for job, state in probes if cluster.folder_of(job) == str(campaign.folder)]
    (node,) = cluster.nodes_of(job)
    assert state == "COMPLETED" and node.startswith("gpu")


def test_two_candidates_through_the_shipped_profile(two, cluster):
    campaign = two
    assert campaign.code == 0, campaign.said()
    table = pd.read_csv(campaign.results / "ranking.csv").set_index("candidate")
    assert table.status.to_dict() == {"one": "complete", "two": "complete"}
    assert table["rank"].notna().all()
    for name in ("one", "two"):
        (attempt,) = campaign.attempts(name)
        assert attempt.how == "finished" and attempt.job and attempt.steps_end > attempt.steps_start == 0
    launch = json.loads((campaign.results / "launch.json").read_text())["name"]
    comments = [comment for _, name, _, comment in cluster.jobs() if name.startswith(launch)]
    # One job for the dynamics, the polarizability and the grouped analysis of each; nothing else goes to the queue.
    assert len(comments) == 6 and sum("dynamics" in comment for comment in comments) == 2
    assert campaign.planned() == []


def test_one_is_made_longer_and_the_other_begun_anew(two, cluster):
    campaign, before = two, two.positions("one")
    done = campaign.run("one", "--ps", "0.5", "--profile", "profile", program="scripts/extend.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.array_equal(campaign.positions("one")[:, : before.shape[1]], before)
    assert campaign.positions("one").shape[1] == before.shape[1] + 50
    first, longer = campaign.attempts("one")
    assert longer.how == "finished" and longer.job != first.job and longer.steps_start == first.steps_end
    assert len(campaign.attempts("two")) == 1  # it was left alone

    campaign.rows = (campaign.folder / "config/tiny.tsv").read_text().splitlines()  # as `extend` left them
    (old,) = campaign.attempts("two")
    done = campaign.run("two", "--from-scratch", "--yes", "--profile", "profile", program="scripts/rerun.py")
    assert done.returncode == 0, done.stdout + done.stderr
    anew = campaign.attempts("two")[-1]
    assert anew.how == "finished" and anew.job != old.job and anew.steps_start == 0
    assert len(campaign.attempts("one")) == 2
    table = pd.read_csv(campaign.results / "ranking.csv").set_index("candidate")
    assert table.status.to_dict() == {"one": "complete", "two": "complete"}
