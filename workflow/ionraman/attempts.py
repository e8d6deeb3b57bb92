"""History of the jobs of a pack, attempts.json beside its checkpoint: who tried, how it ended, how far it came.

The record decides two things: memory grows after an attempt that ran out of it, and an error that repeats without
progress is not tried again in the same launch.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ionraman.trajectory import write_atomically

SLURM_LOGS = Path(".snakemake/slurm_logs")
"""Where Snakemake keeps the logs of failed SLURM jobs, relative to the project."""

_FULL_GPU = ("CUDA out of memory", "CUDA error: out of memory", "Failed to allocate")
"""Words of torch, of CUDA and of warp (torch-sim's neighbour lists)."""

_OUT_OF_MEMORY = re.compile(
    r"^(slurmstepd\S*|srun): .*(oom.kill|out of memory|exceeded (job |step )?memory limit)",
    re.IGNORECASE | re.MULTILINE,
)


class Stopped(RuntimeError):
    """The job was asked to stop; everything up to the last segment is on disk."""


class Repeated(RuntimeError):
    """The last two attempts of this launch ended with the same error and without progress."""


@dataclass
class Attempt:
    """One job. Times in s since 1970; `steps_*`: steps (or frames) safe on disk at start and end.

    how: 'running', 'finished', 'stopped', 'failed', 'out of memory', 'out of GPU memory', or 'lost' (ended without a
    word: killed, or its node failed).
    """

    stage: str
    launch: str
    job: str
    host: str
    pid: int
    started: float
    ended: float | None = None
    how: str = "running"
    reason: str = ""
    steps_start: int = 0
    steps_end: int | None = None


def read_attempts(folder: Path) -> list[Attempt]:
    """Attempts of a pack, oldest first; none where the file is missing or damaged."""
    try:
        return [Attempt(**record) for record in json.loads((folder / "attempts.json").read_text())]
    except (OSError, ValueError, TypeError):
        return []


def out_of_memory_count(folder: Path, stage: str, logs: Path = SLURM_LOGS) -> int:
    """Attempts of a stage that ended for lack of host memory, by their own record or by the log of their SLURM job."""
    return sum(
        attempt.stage == stage
        and (attempt.how == "out of memory" or attempt.how == "running" and _killed_for_memory(attempt, logs))
        for attempt in read_attempts(folder)
    )


@contextmanager
def recorded(folder: Path, stage: str, logs: Path = SLURM_LOGS) -> Iterator[Attempt]:
    """Keep the record of one attempt; the body sets `steps_start` and `steps_end` (None: as many as at the start).

    Raises:
        Repeated: at once, where the last two attempts of the launch (environment variable IONRAMAN_LAUNCH) ended with
            the same error and left as many steps on disk as they found.
    """
    history = read_attempts(folder)
    for earlier in history:
        if earlier.how == "running":  # the lease of the pack is ours, so it is gone
            earlier.how = "out of memory" if _killed_for_memory(earlier, logs) else "lost"
    launch = os.environ.get("IONRAMAN_LAUNCH", "")
    last = [earlier for earlier in history if earlier.stage == stage][-2:]
    if (
        launch
        and len({(e.launch, e.how, e.reason, e.steps_start, e.steps_end) for e in last}) == 1 < len(last)
        and last[0].launch == launch
        and last[0].how in ("failed", "out of GPU memory")
        and last[0].steps_start == last[0].steps_end
    ):
        raise Repeated(
            f"{last[0].reason} (The same error ended two attempts in a row without progress, so this launch does not try "
            "again; a new launch does.)"
        )
    attempt = Attempt(
        stage, launch, os.environ.get("SLURM_JOB_ID", ""), socket.gethostname(), os.getpid(), time.time()
    )
    history.append(attempt)
    _write(folder, history)
    try:
        yield attempt
        attempt.how = "finished"
    except BaseException as error:
        attempt.how, attempt.reason = _how(error), sentence(error)
        raise
    finally:
        attempt.ended = time.time()
        attempt.steps_end = attempt.steps_start if attempt.steps_end is None else attempt.steps_end
        try:
            _write(folder, history)
        except OSError:  # a full disk: the attempt then counts as lost
            pass


def keep(folder: Path, attempt: Attempt) -> None:
    """Write the record of an attempt while it is at work: one that is killed leaves no more than this."""
    _write(folder, [*read_attempts(folder)[:-1], attempt])


def sentence(error: BaseException) -> str:
    """The text of an error on one line, its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _write(folder: Path, history: list[Attempt]) -> None:
    records = [asdict(attempt) for attempt in history]
    write_atomically(folder / "attempts.json", (json.dumps(records, indent=1) + "\n").encode())


def gpu_is_full(error: BaseException) -> bool:
    """Whether an error says that the memory of the device is full: by its words, because from within TorchScript, or of warp, it is no
    torch.OutOfMemoryError (and torch is not imported here)."""
    return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _FULL_GPU)


def _how(error: BaseException) -> str:
    if isinstance(error, Stopped):
        return "stopped"
    if isinstance(error, MemoryError):
        return "out of memory"
    return "out of GPU memory" if gpu_is_full(error) else "failed"


def _killed_for_memory(attempt: Attempt, logs: Path) -> bool:
    """Whether the log of the attempt's SLURM job says that it was killed for lack of memory."""
    if not attempt.job:
        return False
    for log in logs.rglob(f"{attempt.job}.log"):
        # Job numbers start anew when a controller does: a log from before the attempt is another job's.
        if log.stat().st_mtime >= attempt.started and _OUT_OF_MEMORY.search(log.read_text(errors="replace")):
            return True
    return False
