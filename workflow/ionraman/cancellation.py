"""Being told of the end of a SLURM job: SIGTERM where it arrives, the log of the job where it does not.

With SLURM's process tracking by cgroups, SIGTERM (time limit, preemption, scancel) goes to the direct child of slurmstepd
alone, which is Snakemake, and Snakemake keeps it to itself. What the program then sees is the line that slurmstepd writes into
the log of the job, KillWait (30 s by default) before it kills everything.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

from ionraman.attempts import SLURM_LOGS

EVERY_S = 2.0


def watch(logs: Path = SLURM_LOGS) -> None:
    """Send this process SIGTERM once the log of its SLURM job says that the job is cancelled; nothing outside of SLURM."""
    job = os.environ.get("SLURM_JOB_ID", "")
    found = sorted(logs.rglob(f"{job}.log"), key=lambda path: path.stat().st_mtime) if job else []
    if found:
        seen = found[-1].stat().st_size  # a job that was queued again may find the line of its earlier life
        threading.Thread(target=_watch, args=(found[-1], seen, job), daemon=True).start()


def _watch(log: Path, seen: int, job: str) -> None:
    cancelled = re.compile(
        rf"^slurmstepd\S*: error: \*\*\* (JOB|STEP) {job}\b.* CANCELLED".encode(), re.MULTILINE
    )
    pause = threading.Event()
    while not pause.wait(EVERY_S):
        try:
            size = log.stat().st_size
            if size == seen:
                continue
            with open(log, "rb") as file:
                file.seek(seen if size > seen else 0)
                text = file.read()
        except OSError:
            continue
        if cancelled.search(text):
            os.kill(os.getpid(), signal.SIGTERM)
            return
        seen = size - len(text) + text.rfind(b"\n") + 1  # a line that is not whole yet is read again
