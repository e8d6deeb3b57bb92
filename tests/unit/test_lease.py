"""The lease: one holder at a time, a dead or silent one is replaced, and it learns of that."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from ionraman import lease


def held_by(folder, **changes):
    """A lease as another job has left it."""
    record = {
        "token": "other",
        "host": "node7",
        "machine": "elsewhere",
        "pid": 1,
        "process": "1",
        "job": "",
        "since": "now",
    }
    folder.mkdir(exist_ok=True)
    (folder / "lease.json").write_text(json.dumps(record | changes))


def test_a_second_copy_is_told_who_is_at_work(tmp_path):
    program = "import sys, time; from pathlib import Path; from ionraman.lease import held\n"
    program += "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    first = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(lease.LeaseHeld, match=f"process {first.pid} on {socket.gethostname()}"),
        lease.held(tmp_path),
    ):
        pytest.fail("two copies at once")
    first.kill()
    first.wait()
    with lease.held(tmp_path) as own:  # killed without a word: taken over at once
        own.check()
    assert not list(tmp_path.iterdir())


def test_a_heartbeat_that_stopped_is_taken_over(tmp_path):
    held_by(tmp_path)
    os.utime(tmp_path / "lease.json", (time.time() - 200,) * 2)
    with lease.held(tmp_path):
        assert json.loads((tmp_path / "lease.json").read_text())["pid"] == os.getpid()


def test_an_unknown_holder_is_waited_for_and_then_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    held_by(tmp_path)
    (tmp_path / "lease.json").touch()
    start = time.monotonic()
    os.utime(tmp_path / "lease.json", (time.time() + 100,) * 2)  # it goes on beating
    with pytest.raises(lease.LeaseHeld, match="node7"), lease.held(tmp_path, limit_s=2):
        pytest.fail("two copies at once")
    assert time.monotonic() - start > 2


def test_a_holder_learns_that_it_was_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    with lease.held(tmp_path) as own:
        own.check()
        held_by(tmp_path)
        deadline = time.monotonic() + 10
        while not own.lost and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(lease.LeaseLost):
            own.check()
    assert json.loads((tmp_path / "lease.json").read_text())["token"] == "other"  # it is not ours to remove


@pytest.mark.parametrize(("answer", "taken"), [("COMPLETED", True), ("PENDING", True), ("RUNNING", False)])
def test_the_scheduler_is_asked_about_a_job_elsewhere(tmp_path, monkeypatch, answer, taken):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "squeue").write_text(f"#!/bin/sh\necho {answer}\n")
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    folder = tmp_path / "pack"
    held_by(folder, job="99")
    if taken:
        with lease.held(folder):
            pass
    else:
        with pytest.raises(lease.LeaseHeld, match="SLURM job 99"), lease.held(folder):
            pytest.fail("two copies at once")
