"""Where the runs of a campaign stand, read from their files alone: no Snakemake, no scheduler."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ionraman.packs import batch_folders
from ionraman.trajectory import read_json

STALE_S = 900
"""A job on another host that has not reported for so long is taken as lost."""

LEASE_S = 120
"""A lease that was not touched for so long is that of a job that is gone."""

STAGES = ("structure", "dynamics", "polarizability", "transport", "marker", "summary")


@dataclass(frozen=True)
class RunStatus:
    """State of one run: `stage` is the one it is in or waits for, `progress` its share done (0 to 1)."""

    candidate: str
    temperature_K: float
    stage: str
    progress: float
    status: str
    reason: str
    left_s: float | None
    log: str


def run_status(folder: Path, run: dict) -> RunStatus:
    """Status of a run of campaign.json.

    Args:
        folder: of the campaign.
        run: candidate, temperature_K and pack.
    """
    name, temperature, pack = run["candidate"], run["temperature_K"], run["pack"]
    own = folder / "runs" / name / f"{temperature:g}K"

    def answer(stage, progress, status, reason="", left_s=None, log=""):
        path = str(folder / "logs" / log) if log else ""
        return RunStatus(name, temperature, stage, progress, status, reason, left_s, path)

    if (own / "summary.json").exists():
        summary = read_json(own / "summary.json")
        return answer("done", 1.0, summary["status"], summary["reason"])
    logs = {
        "structure": f"structure/{name}.log",
        "dynamics": f"dynamics/{pack}.log",
        "polarizability": f"polarizability/{pack}.log",
        "transport": f"transport/{name}_{temperature:g}K.log",
        "spectrum": f"spectrum/{name}_{temperature:g}K.log",
    }
    failure = own / "failure.json"
    if failure.exists():
        record = read_json(failure)
        return answer(record["stage"], 0.0, "failed", record["reason"], log=logs.get(record["stage"], ""))
    if not (folder / "structures" / name / "structure.json").exists():
        return answer("structure", 0.0, "pending", "not started", log=logs["structure"])
    if not (own / "dynamics.json").exists():
        found = [batch / "progress.json" for batch in batch_folders(folder / "packs" / pack)]
        found = [path for path in found if path.exists()]
        if not found:
            return answer(
                "dynamics", 0.0, "pending", "molecular dynamics has not started", log=logs["dynamics"]
            )
        record = max(map(read_json, found), key=lambda record: record["updated"])
        share = record["steps_done"] / record["steps_total"]
        if share >= 1:
            return answer("dynamics", 1.0, "running", "molecular dynamics done", log=logs["dynamics"])
        state, reason = _alive(record)
        reason = reason or f"{record['stage']}, step {record['steps_done']} of {record['steps_total']}"
        left = record["left_s"] if state == "running" else None
        return answer("dynamics", share, state, reason, left, logs["dynamics"])
    progress = own / "polarizability" / "progress.json"
    if not (own / "polarizability.json").exists() and progress.exists():
        record = read_json(progress)
        share = record["frames"] / record["frames_total"]
        return answer(
            "polarizability", share, "running", f"{share:.0%} of the frames", log=logs["polarizability"]
        )
    return answer("polarizability", 0.0, "pending", "waits for analysis", log=logs["polarizability"])


def at_work(pack_folder: Path) -> bool:
    """Whether a job holds the lease of a pack (a file that a job touches every few seconds)."""
    try:
        return time.time() - (pack_folder / "lease.json").stat().st_mtime < LEASE_S
    except FileNotFoundError:
        return False


def _alive(record: dict) -> tuple[str, str]:
    """('running', '') if the process of a progress record is there, else ('failed', why)."""
    if record["host"] == socket.gethostname():
        try:
            os.kill(record["pid"], 0)
        except ProcessLookupError:
            return (
                "failed",
                f"the process ended without a word at step {record['steps_done']}; run again to resume",
            )
        except PermissionError:
            pass
        return "running", ""
    silent = time.time() - record["updated"]
    if silent > STALE_S:
        return "failed", f"no sign of life for {silent / 60:.0f} min on {record['host']}; run again to resume"
    return "running", ""
