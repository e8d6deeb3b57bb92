"""Trying runs again: what is forgotten of those that failed, and what goes of those that start from scratch."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ionraman.campaign import Campaign
from ionraman.packs import Run, checkpoint_files, plan_packs, read_packs
from ionraman.status import RunStatus, at_work, run_status
from ionraman.trajectory import read_json, trajectory_store

RESULTS = ("unstable", "melted", "invalid", "unsupported")
"""States that are results: the same settings would give them again."""

_OWN = ("dynamics.json", "polarizability.json", "transport.json", "marker.json", "summary.json", "msd.csv", "spectrum.csv",
        "failure.json", "cleaned.json", "trajectory", "polarizability")  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One run to be tried again: what will be done, in words, and what is removed for it."""

    run: Run
    words: str
    remove: tuple[Path, ...]


def plan_attempts(
    folder: Path, runs: list[dict], from_scratch: bool = False
) -> tuple[list[Attempt], list[str]]:
    """Attempts for the runs of campaign.json that were named, and a sentence for each that cannot be tried again."""
    attempts, refused = [], []
    for run in runs:
        status, name = run_status(folder, run), f"{run['candidate']} {run['temperature_K']:g} K"
        if at_work(folder / "packs" / run["pack"]) or (status.status == "running" and status.stage != "done"):
            refused.append(f"{name}: a job is at work on it or on its pack; stop it first.")
        elif from_scratch:
            attempts.append(_anew(folder, run, status, name))
        elif status.status == "failed":
            attempts.append(_again(folder, run, status, name))
        elif status.status in RESULTS:
            refused.append(
                f"{name} is {status.status}, which is a result and would come again ({status.reason}) Change a setting of its "
                "row in the candidate table and launch, or add --from-scratch."
            )
        elif status.stage == "done":
            refused.append(f"{name} is {status.status}: --from-scratch computes it anew.")
        else:
            refused.append(f"{name} is {status.status}: a launch runs it.")
    return attempts, refused


def _again(folder: Path, run: dict, status: RunStatus, name: str) -> Attempt:
    pack = folder / "packs" / run["pack"]
    words = f"{name}: {status.stage} failed ({status.reason}); its failure is forgotten and it is tried again"
    progress = pack / "progress.json"
    if status.stage == "dynamics" and progress.exists() and checkpoint_files(pack):
        words += f", from the last checkpoint (about step {read_json(progress)['steps_done']})"
    own = folder / "runs" / run["candidate"] / f"{run['temperature_K']:g}K"
    remove = [own / "failure.json"]  # attempts.json stays: memory grows with what it holds
    for stage in ("dynamics", "polarizability"):
        seal = folder / "packs" / f"{run['pack']}.{stage}.json"
        key = f"{run['candidate']}:{run['temperature_K']:g}"
        if seal.exists() and read_json(seal).get(key, {}).get("status") == "failed":
            remove.append(seal)
    return Attempt((run["candidate"], run["temperature_K"]), words, tuple(remove))


def _anew(folder: Path, run: dict, status: RunStatus, name: str) -> Attempt:
    own = folder / "runs" / run["candidate"] / f"{run['temperature_K']:g}K"
    paths = [own / part for part in _OWN if (own / part).exists()]
    size = sum(file.stat().st_size for path in paths for file in (path, *path.glob("*")) if file.is_file())
    frames = len(trajectory_store(own).paths())
    words = (
        f"{name} ({status.status}): starts from the structure, in a pack of its own; {frames} segments of its trajectory "
        f"and its results are removed ({size / 1e6:.1f} MB)"
    )
    if status.status == "unstable":
        words += "; with the same settings it may end alike, another seed (overrides: dynamics.seed=2) or a shorter step helps"
    return Attempt((run["candidate"], run["temperature_K"]), words, tuple(paths))


def forget(
    campaign: Campaign,
    folder: Path,
    attempts: list[Attempt],
    from_scratch: bool = False,
    idle: Collection[Run] = (),
) -> None:
    """Remove what stands in the way of the attempts; those from scratch get new packs, without a checkpoint.

    idle: runs that get no trajectory (`ionraman.survey.idle_runs`), which share packs with one another only. The members that stay in a pack keep its checkpoint. The packs are written first: if this is cut short, a run is in
    its new pack with its old trajectory, and is found finished.
    """
    if from_scratch:
        runs = {attempt.run for attempt in attempts}
        former = {run: name for name, members in read_packs(folder / "packs").items() for run in members}
        plan_packs(campaign, folder / "packs", idle=idle, anew=runs)
        for name, members in read_packs(folder / "packs").items():
            if name in former.values() and set(members) <= runs:
                shutil.rmtree(folder / "packs" / name, ignore_errors=True)
    for attempt in attempts:
        for path in attempt.remove:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
