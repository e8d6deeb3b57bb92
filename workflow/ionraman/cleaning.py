"""Freeing disk: checkpoints of finished runs, and trajectories whose results are kept.

`cleaned.json` in the folder of a run says that its trajectory was removed, and holds the results that came of it: a
program asked for one of them again writes back the one that is kept.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ionraman.packs import checkpoint_files, read_packs
from ionraman.status import at_work, run_status
from ionraman.trajectory import polarizability_store, read_json, trajectory_store, write_json

KEPT = ("polarizability", "transport", "marker")


@dataclass
class Plan:
    """Files that can go, the runs whose trajectory goes with them, and why others stay."""

    files: list[Path] = field(default_factory=list)
    trajectories: list[Path] = field(default_factory=list)
    staying: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def plan_cleaning(folder: Path, runs: list[dict], chosen: list[dict], trajectories: bool) -> Plan:
    """What `clean` removes.

    Args:
        folder: of the campaign.
        runs: all of campaign.json; chosen: those to be cleaned. A checkpoint goes once every run of its pack is
            finished and chosen; a trajectory once its run is finished.
    """
    plan, members = Plan(), defaultdict(list)
    for run in runs:
        members[run["pack"]].append(run)
    state = {_label(run): run_status(folder, run) for run in runs}
    names = {_label(run) for run in chosen}
    for pack in {run["pack"]: None for run in chosen}:
        busy = [_label(run) for run in members[pack] if state[_label(run)].stage != "done"]
        others = [_label(run) for run in members[pack] if _label(run) not in names]
        files = checkpoint_files(folder / "packs" / pack)
        if at_work(folder / "packs" / pack):
            plan.staying.append(f"everything of pack {pack}: a job is at work on it")
        elif files and (busy or others):
            why = f"{', '.join(busy)} not finished" if busy else f"shared with {', '.join(others)}"
            plan.staying.append(f"checkpoint of pack {pack}: {why}")
        else:
            plan.files += files
    if len(chosen) == len(runs):  # packs that no run belongs to any more
        for pack in read_packs(folder / "packs"):
            if pack not in members:
                plan.files += checkpoint_files(folder / "packs" / pack)
    for run in chosen if trajectories else []:
        own = run_folder(folder, run)
        if at_work(folder / "packs" / run["pack"]):
            continue
        if state[_label(run)].stage != "done":
            plan.staying.append(f"trajectory of {_label(run)}: not finished")
        elif files := [*trajectory_store(own).paths(), *polarizability_store(own).paths()]:
            plan.files += files
            plan.trajectories.append(own)
    return plan


def clean(plan: Plan) -> None:
    """Remove the files of a plan; what came of a trajectory is put aside first."""
    for own in plan.trajectories:
        _keep_results(own)
    for path in plan.files:
        path.unlink(missing_ok=True)


def _keep_results(run_folder: Path) -> None:
    """Write cleaned.json, and the digest of the trajectory into its record, where the segments had it."""
    dynamics = read_json(run_folder / "dynamics.json")
    digest = next(trajectory_store(run_folder).segments())[2]["digest"]
    record = run_folder / "trajectory" / "progress.json"
    write_json(record, (read_json(record) if record.exists() else dynamics) | {"digest": digest})
    write_json(run_folder / "cleaned.json", {name: read_json(run_folder / f"{name}.json") for name in KEPT})


def run_folder(folder: Path, run: dict) -> Path:
    return folder / "runs" / run["candidate"] / f"{run['temperature_K']:g}K"


def _label(run: dict) -> str:
    return f"{run['candidate']}:{run['temperature_K']:g}"


def is_cleaned(run_folder: Path) -> bool:
    """Whether the trajectory of a run was removed."""
    return (run_folder / "cleaned.json").exists()


def kept(run_folder: Path, result: str, **settings: object) -> dict | None:
    """The kept record of `result` (one of KEPT) of a cleaned run; None if it was not cleaned.

    Raises:
        ValueError: the record was made with other `settings` than these, and cannot be made again.
    """
    if not is_cleaned(run_folder):
        return None
    record = read_json(run_folder / "cleaned.json")[result]
    for key, wanted in settings.items():
        found = record.get(key)
        if found is not None and found != wanted:
            raise ValueError(
                f"The kept {result} was made with {key} {found}, and {wanted} is asked for, but the trajectory was removed "
                f"by scripts/campaign clean: set {key} back, or compute the run anew (scripts/campaign rerun --from-scratch)."
            )
    return record
