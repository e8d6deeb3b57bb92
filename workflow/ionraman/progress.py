"""How far the dynamics of a batch is: progress.json beside its checkpoint, for `scripts/campaign status` and the time of the next job."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from ionraman.protocol import Member
from ionraman.trajectory import write_json

INTERVAL_S = 5.0
"""Shortest time between two reports."""


class ProgressFile:
    """Written while a batch is integrated.

    Args:
        file: progress.json.
        members: of the batch.
        steps_total: of all stages.
        steps_done: at the start of this process; its speed counts from there.
    """

    def __init__(self, file: Path, members: Sequence[Member], steps_total: int, steps_done: int) -> None:
        self.file, self.total, self.resumed = file, steps_total, steps_done
        self.members = [f"{member.name} {member.temperature_K:g} K" for member in members]
        self.started, self.reported = time.monotonic(), 0.0

    def report(self, stage: str, step: int, steps_done: int, force: bool = False) -> None:
        """Write stage, step in it, steps done in all, speed (1/s) and seconds left; at most every `INTERVAL_S` unless forced."""
        now = time.monotonic()
        if not force and now - self.reported < INTERVAL_S:
            return
        self.reported = now
        done = min(steps_done, self.total)
        speed = (done - self.resumed) / max(now - self.started, 1e-9)
        write_json(
            self.file,
            {
                "members": self.members,
                "stage": stage,
                "step": step,
                "steps_done": done,
                "steps_total": self.total,
                "resumed_from": self.resumed,
                "steps_per_s": round(speed, 2),
                "left_s": round((self.total - done) / speed) if speed > 0 else None,
                "updated": time.time(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
            },
        )
