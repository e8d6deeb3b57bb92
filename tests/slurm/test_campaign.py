"""A campaign of two candidates through profiles/slurm, from the table to the ranking, and the probe before it."""

import json

import pandas as pd


def test_the_probe_is_a_job_on_a_gpu_node(new_campaign, cluster):
    campaign = new_campaign("probe")
    campaign.add("one", "structures/NaCl.cif")
    campaign.write()
    done = campaign.run("--probe", "--seconds", "5", "--profile", "profile", program="scripts/check.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shared folder: seen" in done.stdout and "Time on cpu" in done.stdout
    ((job, state),) = [(job, state) for job, _, state, comment in cluster.jobs() if "probe" in comment]
    (node,) = cluster.nodes_of(job)
    assert state == "COMPLETED" and node.startswith("gpu")


def test_two_candidates_through_the_shipped_profile(new_campaign, cluster):
    campaign = new_campaign("two")
    campaign.add("one", "structures/NaCl.cif")
    campaign.add("two", "structures/NaCl.cif", overrides="dynamics.seed=2")
    assert campaign.finish(campaign.launch()) == 0, campaign.said()
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
