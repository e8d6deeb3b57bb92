"""A lease that keeps two copies of one job apart: a file with its holder, whose time of change is the heartbeat.

Not flock, which shared file systems of clusters do not all offer. A holder that is gone is found by its process (on the
same machine), by its SLURM job, or by a heartbeat that stopped; its lease is then taken over. A holder that was taken for
gone finds that out at its next heartbeat.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ionraman.trajectory import write_atomically

HEARTBEAT_S = 10.0
LIMIT_S = 120.0
"""A heartbeat older than this is that of a job that is gone."""


class LeaseHeld(SystemExit):
    """Another job holds the lease."""


class LeaseLost(RuntimeError):
    """Another job took the lease over; nothing more may be written."""


class Lease:
    """A lease that is held. `check` raises `LeaseLost` once another job has it."""

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token, self.lost = path, token, False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def check(self) -> None:
        if self.lost:
            raise LeaseLost(
                f"{self.path} was taken over by another job while this one was silent; it goes on there."
            )

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT_S):
            try:
                if _read(self.path).get("token") != self.token:
                    self.lost = True
                    return
                os.utime(self.path)
            except OSError:  # a file system that does not answer for a moment
                continue

    def release(self) -> None:
        self._end.set()
        self._thread.join()
        if _read(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)


@contextmanager
def held(folder: Path, limit_s: float = LIMIT_S) -> Iterator[Lease]:
    """Hold lease.json in `folder`.

    Waits while it cannot be told whether the holder is alive.

    Raises:
        LeaseHeld: another job is at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, waited = folder / "lease.json", time.monotonic()
    record = {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": os.getpid(),
        "process": process_start(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    while not _create(path, record):
        holder = _read(path)
        gone = _gone(path, holder, record, limit_s)
        if gone:
            print(f"Taking over {path} from {_name(holder)}: it is gone.", flush=True)
            _remove(path, holder)
        elif gone is False or time.monotonic() - waited > limit_s + 2 * HEARTBEAT_S:
            raise LeaseHeld(
                f"{folder} is being computed by {_name(holder)} since {holder.get('since')}; this copy ends. Nothing is lost: "
                "when that job is over, the same command goes on from its checkpoint."
            )
        else:
            time.sleep(2)
    lease = Lease(path, record["token"])
    try:
        yield lease
    finally:
        lease.release()


def _create(path: Path, record: dict) -> bool:
    """Write the lease if there is none; a hard link is atomic on every file system of a cluster."""
    own = path.with_name(f".lease.{record['token']}")
    write_atomically(own, json.dumps(record, indent=1).encode())
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    finally:
        own.unlink(missing_ok=True)
    return True


def _remove(path: Path, holder: dict) -> None:
    """Take the lease of `holder` away; if a third job was quicker, its lease is put back."""
    aside = path.with_name(f".lease.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _read(aside).get("token") != holder.get("token"):
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
    aside.unlink(missing_ok=True)


def _gone(path: Path, holder: dict, own: dict, limit_s: float) -> bool | None:
    """True: the holder is gone; False: it is at work; None: not known yet."""
    if _age_s(path) > limit_s:
        return True
    if holder.get("machine") and holder["machine"] == own["machine"]:
        return process_start(holder["pid"]) != holder["process"]
    if holder.get("job") and holder["job"] != own["job"]:
        return _job_gone(holder["job"])
    return None


def _job_gone(job: str) -> bool | None:
    try:
        asked = subprocess.run(
            ["squeue", "-h", "-t", "all", "-j", job, "-o", "%T"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode:
        return True if "Invalid job id" in asked.stderr else None
    states = set(asked.stdout.split())
    return not states & {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}


def _age_s(path: Path) -> float:
    """Seconds since the heartbeat by the clock of the file system, so that clocks of hosts need not agree."""
    probe = path.with_name(f".lease.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def machine() -> str:
    """This boot of this machine and this namespace of processes; '' where it cannot be told."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process started (clock ticks since boot), '' if there is none: numbers of processes come again."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _name(holder: dict) -> str:
    job = f"SLURM job {holder['job']}, " if holder.get("job") else ""
    return f"{job}process {holder.get('pid')} on {holder.get('host')}"
