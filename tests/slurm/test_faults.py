"""What can go wrong in the jobs, each on the real cluster: nothing is lost but the time since the last segment.

All candidates are the same crystal with the same seed: whatever happens to one, its trajectory is bit for bit that of the one
to which nothing happens.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ionraman.trajectory import polarizability_store, trajectory_store

from .cluster import processes_of
from .conftest import SHORT, wait_until

SEGMENT = round(SHORT["checkpoint_ps"] * 500)  # steps of 2 fs
BEFORE = round((SHORT["npt_ps"] + SHORT["nvt_ps"]) * 500)
FRAMES = round(SHORT["production_ps"] * 100)
HELD = 30  # frames on disk when a held job waits
NAMES = ("calm", "walltime", "killed", "node", "hungry", "poison", "gpu")
POISON = "The potential has no parameters for this pair"


def disturbed(campaign, held: tuple[str, ...] = (), **faults) -> None:
    """Put faulty_dynamics.py in the place of scripts/dynamics.py; `held` candidates wait at 30 frames, see `release`."""
    scripts = campaign.folder / "scripts"
    if scripts.is_symlink():
        scripts.unlink()
        scripts.mkdir()
        for file in (campaign.root / "scripts").iterdir():
            (scripts / file.name).symlink_to(file)
        (scripts / "dynamics.py").unlink()
        shutil.copy(Path(__file__).with_name("faulty_dynamics.py"), scripts / "dynamics.py")
    for name in held:
        (campaign.folder / f"hold-{name}").touch()
    faults = {name: {} for name in held} | faults
    (campaign.folder / "faults.json").write_text(
        json.dumps({"scripts": str(campaign.root / "scripts"), "by": faults})
    )


def release(campaign, name: str) -> None:
    (campaign.folder / f"hold-{name}").unlink()


def at_work(campaign, name: str) -> str:
    """SLURM's number of the job of a held candidate, once it waits with 30 frames and their checkpoint on disk."""

    def job() -> str:
        attempts = campaign.attempts(name) if (campaign.results / "campaign.json").exists() else []
        if not attempts or attempts[-1].how != "running":
            return ""
        held = campaign.folder / f"held-{name}"
        return attempts[-1].job if held.exists() and held.read_text() == attempts[-1].job else ""

    return wait_until(job, f"{name} is at work with {HELD} frames", said=campaign.said)


def end_of(job: str, campaign, cluster) -> None:
    """Wait until SLURM ended a job at its time limit."""
    wait_until(
        lambda: cluster.state_of(job) not in ("RUNNING", "COMPLETING"), "the walltime is over", said=campaign.said
    )


def program(job: str) -> int:
    """Process of the dynamics in a job."""
    (pid,) = processes_of(job, "python scripts/dynamics.py results")
    return pid


def lost_nothing_saved(attempts) -> bool:
    """Whether the last of the attempts took up what the first, which was held, had on disk."""
    return attempts[-1].how == "finished" and attempts[-1].steps_start >= BEFORE + 5 * HELD


@pytest.fixture(scope="module")
def broken(new_campaign, cluster):
    """One launch in which all of it happens."""
    campaign = new_campaign("faults")
    for name in NAMES:
        campaign.add(name, "structures/NaCl.cif")
    disturbed(
        campaign,
        ("calm", "walltime", "killed", "node"),
        hungry={"hog_MB": 3300},
        poison={"fail": POISON},
        gpu={"gpu_full": 1},
    )
    campaign.resources = {
        "runtime": "60",
        "slurm_partition": "'doomed' if wildcards.pack == '0004' else 'gpu'",
    }
    process = campaign.launch()
    # The job's limit is set to what it has used: how fast this machine is today does not matter.
    late = at_work(campaign, "walltime")
    cluster.limit(late)
    os.kill(program(at_work(campaign, "killed")), signal.SIGKILL)
    release(campaign, "killed")
    (node,) = cluster.nodes_of(at_work(campaign, "node"))
    cluster.kill_node(node)
    release(campaign, "node")
    # From here on the configuration is another one, and two candidates are gone from the table.
    (campaign.folder / "config/tiny.yaml").write_text(
        (campaign.folder / "config/tiny.yaml").read_text().replace("production_ps: 1.5", "production_ps: 0.4")
    )
    table = (campaign.folder / "config/tiny.tsv").read_text().splitlines()
    (campaign.folder / "config/tiny.tsv").write_text("\n".join(table[:-2]) + "\n")
    # A second copy of a job at work, by hand.
    campaign.calm_job = at_work(campaign, "calm")
    command = Path(f"/proc/{program(campaign.calm_job)}/cmdline").read_bytes().decode().split("\0")[1:-1]
    environment = os.environ | {"PYTHONPATH": str(campaign.root / "workflow")}
    campaign.copy = subprocess.run(
        [sys.executable, *command],
        cwd=campaign.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    release(campaign, "calm")
    end_of(late, campaign, cluster)
    late = at_work(campaign, "walltime")  # its second allocation is too short as well
    cluster.limit(late)
    end_of(late, campaign, cluster)
    release(campaign, "walltime")
    code = campaign.finish(process)
    cluster.start(node)
    assert code == 1, campaign.said()  # poison
    return campaign


def test_the_others_complete_and_the_ranking_lists_all(broken):
    campaign = broken
    table = pd.read_csv(campaign.results / "ranking.csv").set_index("candidate")
    assert table.status.to_dict() == {name: "failed" if name == "poison" else "complete" for name in NAMES}
    assert POISON in table.reason["poison"]


@pytest.mark.parametrize("name", ["walltime", "killed", "node", "hungry", "gpu"])
def test_the_trajectory_is_that_of_the_undisturbed_run(broken, name):
    campaign = broken
    assert campaign.positions("calm").shape[1] == FRAMES
    assert np.array_equal(campaign.positions(name), campaign.positions("calm"))


def test_a_run_that_exceeds_its_walltime_goes_on_over_three_allocations(broken, cluster):
    campaign = broken
    first, second, third = attempts = campaign.attempts("walltime")
    assert [attempt.how for attempt in attempts] == ["stopped", "stopped", "finished"]
    assert cluster.state_of(first.job) == cluster.state_of(second.job) == "TIMEOUT"
    # It saved itself: not even the time since the last segment is lost.
    assert second.steps_start == first.steps_end >= BEFORE + 5 * HELD
    assert third.steps_start == second.steps_end


def test_kill_9_of_the_md_process(broken):
    campaign = broken
    attempts = campaign.attempts("killed")
    assert [attempt.how for attempt in attempts] == ["lost", "finished"] and lost_nothing_saved(attempts)


def test_a_dead_node(broken):
    campaign = broken
    attempts = campaign.attempts("node")
    assert [attempt.how for attempt in attempts] == ["lost", "finished"] and attempts[0].job != attempts[
        1
    ].job
    assert lost_nothing_saved(attempts)


def test_memory_doubles_after_a_kill_for_memory_and_only_then(broken, cluster):
    campaign = broken
    attempts = {name: campaign.attempts(name) for name in NAMES}
    assert [attempt.how for attempt in attempts["hungry"]] == ["out of memory", "finished"]
    asked = {name: [cluster.memory_mb(attempt.job) for attempt in found] for name, found in attempts.items()}
    first = asked["calm"][0]
    assert asked["hungry"] == [first, 2 * first]
    assert all(asked[name] == [first] * len(asked[name]) for name in NAMES if name != "hungry")


def test_a_full_gpu_is_recorded_and_tried_again(broken):
    campaign = broken
    first, second = campaign.attempts("gpu")
    assert (first.how, second.how) == ("out of GPU memory", "finished")
    assert second.steps_start == BEFORE + 300 - 300 % SEGMENT


def test_a_candidate_that_always_fails_is_tried_twice(broken):
    campaign = broken
    attempts = campaign.attempts("poison")
    assert [attempt.how for attempt in attempts] == ["failed"] * len(attempts)
    # The first came as far as the last segment, two went no further, and the fourth ended at once.
    assert len(attempts) == 3 and all(POISON in attempt.reason for attempt in attempts)
    assert attempts[1].steps_start == attempts[1].steps_end == attempts[2].steps_end


def test_a_second_copy_ends_with_a_clear_message(broken):
    campaign = broken
    assert campaign.copy.returncode != 0
    assert f"is being computed by SLURM job {campaign.calm_job}" in campaign.copy.stderr
    assert [attempt.how for attempt in campaign.attempts("calm")] == ["finished"]


def test_a_configuration_edited_meanwhile_is_that_of_the_next_launch(broken):
    campaign = broken
    assert "production_ps: 0.4" in (campaign.folder / "config/tiny.yaml").read_text()
    for name in set(NAMES) - {"poison"}:
        assert campaign.summary(name)["dynamics"]["frames"] == FRAMES


def test_accounting_is_off_and_the_launch_ended_all_the_same(broken):
    asked = subprocess.run(["sacct"], capture_output=True, text=True, check=False)
    assert "disabled" in asked.stderr


def analyse(campaign, name: str, program: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run the program of an analysis; if it fails, its output is removed, as Snakemake does."""
    run = campaign.results / f"runs/{name}/800K"
    paths = [run / word if word.endswith(".json") else word for word in arguments]
    command = [sys.executable, f"scripts/{program}.py", *paths, "--confidence", "0.95"]
    environment = os.environ | {"PYTHONPATH": str(campaign.root / "workflow")}
    done = subprocess.run(
        command, cwd=campaign.folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        [path for path in paths if isinstance(path, Path)][-1].unlink()
    return done


@pytest.fixture(scope="module")
def repaired(broken):
    """A second launch with the configuration of the first, after files were damaged and the poison was cured."""
    campaign = broken
    runs = {name: campaign.results / f"runs/{name}/800K" for name in NAMES}
    packs = campaign.results / "packs"
    disturbed(campaign)
    campaign.before = {
        path: path.stat().st_mtime_ns
        for name in ("calm", "gpu")
        for path in trajectory_store(runs[name]).paths()
    }
    campaign.whole = polarizability_store(runs["killed"]).read()[0]["alpha_A3"]
    middle = trajectory_store(runs["killed"]).paths()[5]
    middle.write_bytes(middle.read_bytes()[:200])
    last = trajectory_store(runs["walltime"]).paths()[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF
    last.write_bytes(content)
    alpha = polarizability_store(runs["node"]).paths()[3]
    alpha.write_bytes(b"")
    checkpoint = packs / campaign.pack_of("poison") / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    # An analysis finds the damage of a segment, and fails.
    raman = [f"{key}={campaign.config['raman'].get(key)}" for key in ("laser_nm", "nu1_cm", "nu2_cm")]
    for name, segment, command in (
        ("killed", middle, ["transport", "dynamics.json", "transport.json"]),
        ("walltime", last, ["transport", "dynamics.json", "transport.json"]),
        ("node", alpha, ["spectrum", "dynamics.json", "polarizability.json", "marker.json", "--settings", *raman]),
    ):
        failed = analyse(campaign, name, *command)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert f"{segment.name} is computed again when the campaign is launched again" in failed.stdout
    assert campaign.finish(campaign.launch()) == 0, campaign.said()
    return campaign


def test_the_second_launch_repairs_everything(repaired):
    table = pd.read_csv(repaired.results / "ranking.csv").set_index("candidate")
    assert set(table.status) == {"complete"} and set(table.index) == set(NAMES)
    for name in NAMES:
        assert np.array_equal(repaired.positions(name), repaired.positions("calm")), name
    assert "is damaged" in repaired.log("killed") and "is damaged" in repaired.log("walltime")
    assert "is damaged" in repaired.log("poison") and "is damaged" in repaired.log("node", "polarizability")
    for name in NAMES:
        alpha = polarizability_store(repaired.results / f"runs/{name}/800K").read()[0]["alpha_A3"]
        np.testing.assert_allclose(alpha, repaired.whole, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_damaged_last_segment_costs_that_segment(repaired):
    assert repaired.attempts("walltime")[-1].steps_start >= BEFORE + 5 * FRAMES - 2 * SEGMENT
    assert repaired.attempts("poison")[-1].steps_start >= BEFORE + 300 - 2 * SEGMENT


def test_the_second_launch_runs_nothing_twice(repaired):
    assert all(path.stat().st_mtime_ns == time for path, time in repaired.before.items())
    assert len(repaired.attempts("calm")) == 1
    for name in NAMES:
        spans = [(attempt.started, attempt.ended) for attempt in repaired.attempts(name) if attempt.ended]
        assert all(early[1] <= late[0] for early, late in pairwise(spans))
