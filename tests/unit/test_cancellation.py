"""A job without SIGTERM learns from its log that it is cancelled."""

import subprocess
import sys
import time

import pytest

PROGRAM = """
import signal, sys, time
from pathlib import Path
from ionraman import cancellation
cancellation.EVERY_S = 0.1
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
cancellation.watch(Path(sys.argv[1]))
print("ready", flush=True)
time.sleep(6)
"""
LINE = (
    "slurmstepd-gpu1: error: *** STEP 41.0 ON gpu1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***\n"
)


@pytest.mark.parametrize(
    ("before", "parts", "code"),
    [
        ("", [LINE], 7),
        ("", [LINE[:60], LINE[60:]], 7),
        ("", ["slurmstepd: error: *** JOB 41 ON n CANCELLED AT 2026 DUE TO PREEMPTION ***\n"], 7),
        (LINE, ["Building DAG of jobs...\n"], 0),  # queued again: the line is of its earlier life
        ("", [LINE.replace("41", "411")], 0),
        ("", ["CANCELLED\n"], 0),
    ],
    ids=["step", "in two writes", "preempted", "earlier life", "another job", "other text"],
)
def test_the_line_of_slurmstepd_ends_the_job(tmp_path, monkeypatch, before, parts, code):
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    log = tmp_path / "rule_dynamics/0001/41.log"
    log.parent.mkdir(parents=True)
    log.write_text(before)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for part in parts:
        with open(log, "a") as file:
            file.write(part)
        time.sleep(0.5)
    assert process.wait(20) == code
