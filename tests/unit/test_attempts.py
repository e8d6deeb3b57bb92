"""The record of attempts: how they ended, what an out-of-memory kill leaves behind, when trying again is pointless."""

import os
import time

import pytest
from ionraman import resources
from ionraman.attempts import Repeated, Stopped, out_of_memory_count, read_attempts, recorded


@pytest.fixture
def launch(monkeypatch):
    monkeypatch.setenv("IONRAMAN_LAUNCH", "first")
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def fail(folder, logs, error, steps=(0, 0), stage="dynamics"):
    with pytest.raises(type(error)), recorded(folder, stage, logs) as attempt:
        attempt.steps_start, attempt.steps_end = steps
        raise error


def test_each_attempt_is_recorded_with_its_end(tmp_path, launch):
    fail(tmp_path, tmp_path, Stopped("asked to"), (0, 50))
    fail(tmp_path, tmp_path, MemoryError())
    with recorded(tmp_path, "dynamics", tmp_path) as attempt:
        attempt.steps_start = 50
    first, second, third = read_attempts(tmp_path)
    assert (first.how, first.reason, first.steps_end, first.job) == ("stopped", "asked to", 50, "17")
    assert (second.how, second.reason) == ("out of memory", "MemoryError")
    assert (third.how, third.steps_start, third.steps_end, third.pid) == ("finished", 50, 50, os.getpid())
    assert first.started <= first.ended <= second.started


def test_the_same_error_twice_without_progress_ends_the_third_at_once(tmp_path, launch, monkeypatch):
    for _ in range(2):
        fail(tmp_path, tmp_path, ValueError("no such field"))
    with pytest.raises(Repeated, match="no such field"), recorded(tmp_path, "dynamics", tmp_path):
        pytest.fail("was tried a third time")
    assert len(read_attempts(tmp_path)) == 2
    with recorded(tmp_path, "polarizability", tmp_path):  # another stage is not concerned
        pass
    monkeypatch.setenv("IONRAMAN_LAUNCH", "second")
    with recorded(tmp_path, "dynamics", tmp_path):  # nor is another launch
        pass


@pytest.mark.parametrize(
    "errors",
    [
        [(ValueError("a"), (0, 0)), (ValueError("b"), (0, 0))],
        [(ValueError("a"), (0, 0)), (ValueError("a"), (0, 10))],
        [(Stopped("a"), (0, 0)), (Stopped("a"), (0, 0))],
    ],
    ids=["other error", "progress", "stopped"],
)
def test_otherwise_it_is_tried_again(tmp_path, launch, errors):
    for error, steps in errors:
        fail(tmp_path, tmp_path, error, steps)
    with recorded(tmp_path, "dynamics", tmp_path) as attempt:
        assert attempt.how == "running"


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("slurmstepd-gpu1: error: Detected 1 oom-kill event(s) in StepId=17.0. Some of your processes", True),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=17.0.", True),
        ("srun: error: gpu1: task 0: Out Of Memory", True),
        ("slurmstepd: error: StepId=17.0 exceeded memory limit (900 > 800), being killed", True),
        ("torch.OutOfMemoryError: CUDA out of memory.", False),
        ("slurmstepd: error: *** JOB 17 ON gpu1 CANCELLED DUE TO TIME LIMIT ***", False),
    ],
)
def test_memory_grows_only_after_a_kill_for_memory(tmp_path, launch, line, counted):
    logs = tmp_path / "logs/rule_dynamics/0001"
    logs.mkdir(parents=True)
    killed = recorded(tmp_path, "dynamics", tmp_path / "logs")
    assert killed.__enter__().how == "running"  # nothing ends the record
    before = resources.memory_mb(100, 3, tmp_path, "dynamics")
    (logs / "17.log").write_text(f"Job runs\n{line}\nend\n")
    assert out_of_memory_count(tmp_path, "dynamics", tmp_path / "logs") == counted
    with recorded(tmp_path, "dynamics", tmp_path / "logs"):
        pass
    assert read_attempts(tmp_path)[0].how == ("out of memory" if counted else "lost")
    assert resources.memory_mb(100, 3, tmp_path, "dynamics") == before * (2 if counted else 1)


def test_a_log_older_than_the_attempt_is_of_another_job(tmp_path, launch):
    log = tmp_path / "17.log"
    log.write_text("srun: error: gpu1: task 0: Out Of Memory\n")
    os.utime(log, (time.time() - 100,) * 2)
    killed = recorded(tmp_path, "dynamics", tmp_path)
    killed.__enter__()
    assert out_of_memory_count(tmp_path, "dynamics", tmp_path) == 0


def test_minutes_scale_with_atoms_and_steps_up_to_the_limit():
    steps = {"npt": 5000, "nvt": 1000, "production": 50_000}

    def minutes(atoms=100, steps=steps, limit=10**6, **more):
        return resources.dynamics_minutes(atoms, steps, 5, 1e4, limit, **more) - resources.STARTUP_MIN

    assert minutes(200) == pytest.approx(2 * minutes(), abs=1)
    assert minutes(steps={key: 2 * value for key, value in steps.items()}) == pytest.approx(
        2 * minutes(), abs=1
    )
    assert resources.dynamics_minutes(100, steps, 5, 1e4, 30) == 30
    assert minutes(left_s=600) == 15
    # A small pack does not make a GPU's steps shorter than the start of their kernels.
    assert minutes(1, step_s=0.02) == pytest.approx(1.5 * 56_000 * 0.02 / 60, abs=1)
    assert resources.polarizability_minutes(100, 1e5, 5, 1e4, 60) == 60
