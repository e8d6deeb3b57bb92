"""What can go wrong around the jobs: the launcher killed, interrupted, started twice; preemption; a full disk."""

import os
import signal
import subprocess
from itertools import pairwise

import numpy as np
import pytest

from .conftest import wait_until
from .test_faults import BEFORE, FRAMES, HELD, at_work, disturbed, release

TARGET = "results/tiny/packs/0001.dynamics.json"


@pytest.fixture(scope="module")
def ongoing(new_campaign, cluster):
    """Four campaigns of one candidate each, launched together so that they share the waiting; each is held at 30 frames."""
    campaigns = {}
    for name, profile in (("restart", "slurm"), ("waited", "slurm"), ("preempted", "slurm-preemptible"), ("disk", "slurm")):
        campaign = campaigns[name] = new_campaign(name, profile)
        campaign.add("salt", "structures/NaCl.cif")
        disturbed(campaign, ("salt",))
        campaign.resources["runtime"] = "60"  # it is held for longer than it would take
    campaigns["preempted"].resources["slurm_partition"] = "'low'"
    campaigns["disk"].edits["retries"] = 0  # each would fail in the same way
    disk = campaigns["disk"].results
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        for campaign in campaigns.values():
            campaign.process = campaign.launch(TARGET)
        preempt(campaigns["preempted"], cluster)  # first of all: SLURM lets a requeued job wait for two minutes
        yield campaigns
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def preempt(campaign, cluster) -> None:
    """Have the job of a held candidate preempted, and let it go on."""
    campaign.job = at_work(campaign, "salt")
    command = ["sbatch", "-p", "high", "--gpus=1", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 5"]
    subprocess.run(command, check=True, capture_output=True)
    wait_until(lambda: cluster.state_of(campaign.job) != "RUNNING", "the job is preempted", said=campaign.said)
    wait_until(
        lambda: campaign.attempts("salt")[-1].how != "running", "the job has saved itself", said=campaign.said
    )
    release(campaign, "salt")


def one_after_the_other(attempts) -> bool:
    """Whether no two attempts were at work at the same time, and each went on where the one before it was saved."""
    return all(
        early.ended <= late.started and late.steps_start >= early.steps_start
        for early, late in pairwise(attempts)
        if early.ended
    )


def test_a_full_disk_fails_cleanly_and_the_next_launch_goes_on(ongoing):
    campaign = ongoing["disk"]
    at_work(campaign, "salt")
    filler = campaign.results / "filler"
    with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    release(campaign, "salt")
    assert campaign.finish(campaign.process) != 0
    run = campaign.results / "runs/salt/800K/trajectory"
    assert not list(run.glob(".*")) and FRAMES > campaign.frames("salt") >= HELD  # whole segments only
    filler.unlink()
    assert campaign.finish(campaign.launch(TARGET)) == 0, campaign.said()
    last = campaign.attempts("salt")[-1]
    assert last.how == "finished" and last.steps_start >= BEFORE + 5 * HELD
    assert campaign.positions("salt").shape[1] == FRAMES


def test_a_killed_launcher_and_ctrl_c(ongoing, cluster):
    campaign = ongoing["restart"]
    job = at_work(campaign, "salt")
    second = campaign.launch(TARGET)
    assert campaign.finish(second) != 0 and "is being computed by a launch" in campaign.said()
    os.killpg(campaign.process.pid, signal.SIGKILL)
    campaign.process.wait()
    assert cluster.state_of(job) == "RUNNING"
    third = campaign.launch(TARGET)  # at once, while the job is at work
    wait_until(lambda: len(campaign.attempts("salt")) == 2, "the job was started again", said=campaign.said)
    assert "cancelled" in campaign.text.read_text() and "Removing the lock" in campaign.text.read_text()
    again = at_work(campaign, "salt")
    first, resumed = campaign.attempts("salt")
    assert first.how == "stopped" and resumed.steps_start == first.steps_end >= BEFORE + 5 * HELD

    os.killpg(third.pid, signal.SIGINT)
    assert campaign.finish(third) != 0
    wait_until(
        lambda: cluster.state_of(again) not in ("RUNNING", "COMPLETING"), "the job ends", said=campaign.said
    )
    # 20 s after its SIGTERM (KillWait of this cluster) SLURM would have killed the job, and it would be lost.
    assert campaign.attempts("salt")[-1].how == "stopped"
    release(campaign, "salt")

    assert campaign.finish(campaign.launch(TARGET)) == 0, campaign.said()
    attempts = campaign.attempts("salt")
    assert [attempt.how for attempt in attempts] == ["stopped", "stopped", "finished"]
    assert attempts[2].steps_start == attempts[1].steps_end
    assert one_after_the_other(attempts) and campaign.positions("salt").shape[1] == FRAMES


def test_jobs_of_a_killed_launcher_are_waited_for_if_asked(ongoing, cluster):
    campaign = ongoing["waited"]
    job = at_work(campaign, "salt")
    os.killpg(campaign.process.pid, signal.SIGKILL)
    campaign.process.wait()
    again = campaign.launch("--old-jobs", "wait", TARGET)
    wait_until(lambda: "wait" in campaign.text.read_text().lower(), "the launcher says that it waits", said=campaign.said)
    assert cluster.state_of(job) == "RUNNING"
    release(campaign, "salt")
    assert campaign.finish(again) == 0, campaign.said()
    (attempt,) = campaign.attempts("salt")  # nothing was cancelled or started anew
    assert attempt.how == "finished" and attempt.job == job
    assert campaign.positions("salt").shape[1] == FRAMES


def test_a_preempted_job_is_requeued_and_goes_on(ongoing):
    campaign = ongoing["preempted"]
    assert campaign.finish(campaign.process) == 0, campaign.said()
    first, second = campaign.attempts("salt")
    assert first.how == "stopped" and second.how == "finished"
    assert second.job == first.job == campaign.job  # SLURM queued it again; it cost no retry
    assert second.steps_start == first.steps_end >= BEFORE + 5 * HELD
    assert campaign.positions("salt").shape[1] == FRAMES


def test_disturbed_trajectories_are_the_same(ongoing):
    expected = ongoing["disk"].positions("salt")
    for name in ("restart", "waited", "preempted"):
        assert np.array_equal(ongoing[name].positions("salt"), expected), name
