"""One launch of a campaign at a time: what a launcher that was killed left behind is settled before the next one starts."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from arguments import read_json, write_json
from ionraman.lease import machine, process_start
from layers import campaign_folder, profiles, values

SILENT_S = 120
"""A launcher on another host that has not reported for so long is gone."""

CANCELLED_S = 180
"""A cancelled job has KillWait (30 s by default) to save itself."""


class Launch:
    """The record of this launch, launch.json in the campaign's folder.

    Its name is the beginning of the names of its SLURM jobs, so that they can be found without Snakemake.
    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        """Settle what an earlier launch left behind.

        Args:
            arguments: of Snakemake; `--old-jobs wait|cancel` is taken out of them.
            log: where Snakemake writes to.

        Raises:
            SystemExit: another launch of the campaign is at work, or SLURM does not answer.
        """
        old_jobs = _take(arguments, "--old-jobs") or "cancel"
        if old_jobs not in ("wait", "cancel"):
            sys.exit(f"--old-jobs: found {old_jobs!r}; allowed: wait, cancel.")
        folder, results = campaign_folder(arguments)
        self.path, self.name = folder / "launch.json", f"ionraman-{uuid.uuid4().hex[:12]}"
        self.slurm = uses_slurm(arguments)
        earlier = read_json(self.path) if self.path.exists() else {}
        if where := _alive(self.path, earlier):
            sys.exit(
                f"{folder} is being computed by a launch {where}, since {earlier['since']}; its log is {earlier['log']}. "
                "End that one first (Ctrl-C), or let it finish."
            )
        if self.slurm and earlier:
            settle(earlier["name"], old_jobs)
        others = [path for path in results.glob("*/launch.json") if _alive(path, read_json(path))]
        if not others and any(Path(".snakemake/locks").glob("*")) and not _snakemake_here():
            print("Removing the lock that a killed launch left behind.", flush=True)
            unlock = [sys.executable, "-m", "snakemake", *arguments, "--unlock"]
            subprocess.run(unlock, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        self.record = {
            "name": self.name,
            "host": socket.gethostname(),
            "machine": machine(),
            "processes": {os.getpid(): process_start(os.getpid())},
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "log": str(log),
        }
        write_json(self.path, self.record)

    def arguments(self) -> list[str]:
        """What Snakemake needs to name its jobs after the launch."""
        return ["--slurm-jobname-prefix", self.name] if self.slurm else []

    def environment(self) -> dict[str, str]:
        """What the jobs need to know the launch."""
        return {"IONRAMAN_LAUNCH": self.name}

    def follows(self, pid: int) -> None:
        """Snakemake is part of the launch: it may outlive this process."""
        self.record["processes"][pid] = process_start(pid)
        write_json(self.path, self.record)

    def beat(self) -> None:
        os.utime(self.path)

    def end(self) -> None:
        try:
            write_json(self.path, self.record | {"processes": {}, "ended": time.strftime("%Y-%m-%d %H:%M:%S")})
        except OSError as error:  # a full disk: the next launch finds the processes gone
            print(f"{self.path} could not be written: {error}", flush=True)


def uses_slurm(arguments: list[str]) -> bool:
    """Whether the executor that the arguments or their profile name is SLURM."""
    if executor := values(arguments, "--executor", "-e"):
        return executor[0] == "slurm"
    return any(profile.get("executor") == "slurm" for profile in profiles(arguments))


def local_jobs(arguments: list[str], threads: int) -> int:
    """Jobs of so many threads that run at a time on this machine; 1 where a scheduler has them or nothing says how many."""
    if uses_slurm(arguments):
        return 1
    cores = values(arguments, "--cores", "-c", "--jobs", "-j")
    named = values(arguments, "--profile", "--workflow-profile")
    stated = profiles(arguments if named else ["--profile", "profiles/local"])
    cores += [str(profile["cores"]) for profile in stated if "cores" in profile]
    return max(1, int(cores[0]) // threads) if cores and cores[0].isdigit() else 1


def settle(name: str, how: str) -> None:
    """Cancel the SLURM jobs of an earlier launch and wait until they are gone; with 'wait', running ones end first."""
    jobs = slurm_jobs(name)
    if not jobs:
        return
    chosen = [job for job, state in jobs.items() if how == "cancel" or state == "PENDING"]
    print(
        f"The earlier launch {name} left {len(jobs)} jobs in SLURM: "
        f"{len(chosen)} cancelled (they save their state), {len(jobs) - len(chosen)} waited for.",
        flush=True,
    )
    if chosen:
        subprocess.run(["scancel", *chosen], check=False)
    since = time.monotonic()
    while jobs := slurm_jobs(name):
        if len(jobs) == len(set(jobs) & set(chosen)) and time.monotonic() - since > CANCELLED_S:
            sys.exit(
                f"SLURM jobs {' '.join(jobs)} of an earlier launch do not end; see squeue, and try again."
            )
        time.sleep(2)


def slurm_jobs(name: str) -> dict[str, str]:
    """State by number of the jobs of a launch that are in the queue or at work.

    Raises:
        SystemExit: squeue does not answer.
    """
    command = ["squeue", "-h", "-u", getpass.getuser(), "-o", "%A|%j|%T"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        sys.exit(
            f"SLURM cannot be asked about the jobs of an earlier launch ({asked.stderr.strip()}); try again."
        )
    rows = (line.split("|") for line in asked.stdout.splitlines())
    return {job: state for job, job_name, state in rows if job_name.startswith(name)}


def _alive(path: Path, record: dict) -> str:
    """Where a recorded launch is at work; '' if it is not."""
    if not record.get("processes"):
        return ""
    if record["machine"] and record["machine"] == machine():
        living = [pid for pid, start in record["processes"].items() if process_start(int(pid)) == start]
        return f"(process {living[0]} on this machine)" if living else ""
    return f"on {record['host']}" if time.time() - path.stat().st_mtime < SILENT_S else ""


def _snakemake_here() -> bool:
    """Whether another Snakemake works in this folder (a job's own has --nolock)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().split(b"\0")
            if (
                b"snakemake" in line
                and b"--nolock" not in line
                and Path(os.readlink(folder / "cwd")) == Path.cwd()
            ):
                return True
        except OSError:
            continue
    return False


def _take(arguments: list[str], option: str) -> str | None:
    """Take `option VALUE` out of the arguments."""
    if option not in arguments:
        return None
    place = arguments.index(option)
    value = arguments[place + 1] if place + 1 < len(arguments) else ""
    del arguments[place : place + 2]
    return value
