"""What can go wrong around the jobs: the launcher killed, interrupted, started twice; preemption; a full disk."""

import json
import os
import signal
import subprocess
import time
from itertools import pairwise

import numpy as np
import pytest

from .conftest import wait_until
from .test_faults import BEFORE, FRAMES, SEGMENT, disturbed

TARGET = "results/tiny/packs/0001.dynamics.json"


@pytest.fixture(scope="module")
def ongoing(new_campaign, cluster):
    """Three campaigns of one slow candidate each, launched together so that they share the waiting."""
    campaigns = {}
    for name, profile in (("restart", "slurm"), ("preempted", "slurm-preemptible"), ("disk", "slurm")):
        campaign = campaigns[name] = new_campaign(name, profile)
        campaign.add("salt", "structures/NaCl.cif")
        disturbed(campaign, salt={"sleep_s": 0.1})
    campaigns["preempted"].resources["slurm_partition"] = "'low'"
    disk = campaigns["disk"].results
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        for campaign in campaigns.values():
            campaign.process = campaign.launch(TARGET)
        yield campaigns
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def running(campaign) -> bool:
    attempts = campaign.attempts("salt") if (campaign.results / "campaign.json").exists() else []
    return bool(attempts) and attempts[-1].how == "running"


def with_frames(campaign, frames: int) -> int:
    wait_until(
        lambda: campaign.frames("salt") >= frames and running(campaign),
        f"{frames} frames",
        said=campaign.said,
    )
    return campaign.frames("salt")


def one_after_the_other(attempts) -> bool:
    """Whether no two attempts were at work at the same time, and each went on where the one before it was saved."""
    return all(
        early.ended <= late.started and late.steps_start >= early.steps_start
        for early, late in pairwise(attempts)
        if early.ended
    )


def test_a_killed_launcher_and_ctrl_c(ongoing, cluster):
    campaign = ongoing["restart"]
    before = with_frames(campaign, 20)
    second = campaign.launch(TARGET)
    assert campaign.finish(second) != 0 and "is being computed by a launch" in campaign.said()
    (job,) = [attempt.job for attempt in campaign.attempts("salt")]
    os.killpg(campaign.process.pid, signal.SIGKILL)
    campaign.process.wait()
    assert job in [number for number, _, state, _ in cluster.jobs() if state == "RUNNING"]
    third = campaign.launch(TARGET)  # at once, while the job is at work
    wait_until(lambda: len(campaign.attempts("salt")) == 2, "the job was started again", said=campaign.said)
    assert "cancelled" in campaign.text.read_text() and "Removing the lock" in campaign.text.read_text()
    first, resumed = campaign.attempts("salt")
    assert first.how == "stopped" and resumed.steps_start == first.steps_end >= BEFORE + 5 * before

    before = with_frames(campaign, before + 20)
    asked = time.time()
    os.killpg(third.pid, signal.SIGINT)
    assert campaign.finish(third) != 0
    stopped = campaign.attempts("salt")[-1]
    assert stopped.how == "stopped" and stopped.ended - asked < 20
    name = json.loads((campaign.results / "launch.json").read_text())["name"]
    assert not [
        job
        for job, own, state, _ in cluster.jobs()
        if state in ("RUNNING", "PENDING") and own.startswith(name)
    ]

    assert campaign.finish(campaign.launch(TARGET)) == 0, campaign.said()
    attempts = campaign.attempts("salt")
    assert [attempt.how for attempt in attempts] == ["stopped", "stopped", "finished"]
    assert attempts[2].steps_start == attempts[1].steps_end >= BEFORE + 5 * before
    assert one_after_the_other(attempts) and campaign.positions("salt").shape[1] == FRAMES


def test_a_preempted_job_is_requeued_and_goes_on(ongoing, cluster):
    campaign = ongoing["preempted"]
    before = with_frames(campaign, 20)
    asked = time.time()
    command = ["sbatch", "-p", "high", "--gpus=1", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 5"]
    subprocess.run(command, check=True, capture_output=True)
    wait_until(lambda: not running(campaign), "the job is preempted", 60, campaign.said)
    (first,) = campaign.attempts("salt")
    assert first.how == "stopped" and first.ended - asked < 40
    assert campaign.finish(campaign.process) == 0, campaign.said()
    first, second = campaign.attempts("salt")
    assert second.how == "finished" and second.job == first.job  # SLURM queued it again; it cost no retry
    assert second.steps_start == first.steps_end >= BEFORE + 5 * before
    assert campaign.positions("salt").shape[1] == FRAMES


def test_a_full_disk_fails_cleanly_and_the_next_launch_goes_on(ongoing):
    campaign = ongoing["disk"]
    before = with_frames(campaign, 20)
    filler = campaign.results / "filler"
    with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert campaign.finish(campaign.process) != 0
    run = campaign.results / "runs/salt/800K/trajectory"
    assert not list(run.glob(".*")) and FRAMES > campaign.frames("salt") >= before  # whole segments only
    filler.unlink()
    assert campaign.finish(campaign.launch(TARGET)) == 0, campaign.said()
    last = campaign.attempts("salt")[-1]
    assert last.how == "finished" and last.steps_start >= BEFORE + 5 * before - SEGMENT
    positions = campaign.positions("salt")
    assert positions.shape[1] == FRAMES and np.array_equal(positions, ongoing["restart"].positions("salt"))
