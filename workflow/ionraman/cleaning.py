"""Freeing disk: checkpoints of finished runs, and trajectories whose results are kept.

`cleaned.json` in the folder of a run says that its trajectory was removed, and holds the results that came of it: a
program asked for one of them again writes back the one that is kept.
"""

from __future__ import annotations

from pathlib import Path

from ionraman.trajectory import read_json

KEPT = ("polarizability", "transport", "marker")


def is_cleaned(run_folder: Path) -> bool:
    """Whether the trajectory of a run was removed."""
    return (run_folder / "cleaned.json").exists()


def kept(run_folder: Path, result: str, **settings: float) -> dict | None:
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
                f"{result} was computed with {key} {found:g}, and {wanted:g} is asked for, but the trajectory was removed by "
                f"scripts/campaign clean: set {key} back, or run it anew (scripts/campaign rerun --from-scratch)."
            )
    return record
