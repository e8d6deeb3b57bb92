"""Jobs of a campaign in SLURM's queue, found by the names of its launches; also while no Snakemake runs, and without SLURM."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ionraman.trajectory import read_json


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it. task: rule and wildcards, 'dynamics 0001'; where: its nodes, or why it waits."""

    number: str
    state: str
    elapsed: str
    limit: str
    where: str
    task: str


def campaign_jobs(folder: Path) -> tuple[list[Job], str]:
    """Jobs of the campaign in `folder` that wait or run, and what went wrong with asking for them ('' if nothing).

    Without squeue there are none.
    """
    names = _launches(folder)
    if shutil.which("squeue") is None or not names:
        return [], ""
    command = ["squeue", "--me", "-h", "-o", "%A|%j|%T|%M|%l|%R|%k"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"squeue does not answer ({error})"
    if asked.returncode:
        return [], f"squeue does not answer ({asked.stderr.strip()})"
    jobs = []
    for line in asked.stdout.splitlines():
        number, name, state, elapsed, limit, where, comment = line.split("|", 6)
        if name.startswith(names):
            jobs.append(Job(number, state, elapsed, limit, where, _task(comment)))
    return jobs, ""


def _launches(folder: Path) -> tuple[str, ...]:
    """Beginnings of the names of jobs: of the launch on record, and those that the logs of Snakemake tell."""
    record = folder / "launch.json"
    names = [read_json(record)["name"]] if record.exists() else []
    for log in sorted(folder.parent.glob("snakemake-*.log"))[-50:]:
        text = log.read_text(errors="replace")
        if re.search(rf"^Campaign folder: .*\b{re.escape(folder.name)}$", text, re.MULTILINE):
            names += re.findall(r"SLURM run ID: (\S+)", text)
    return tuple(names)


def _task(comment: str) -> str:
    """'rule_dynamics_wildcards_0001' as 'dynamics 0001'."""
    return comment.removeprefix("rule_").replace("_wildcards_", " ")
