"""Packs: frozen lists of runs that one job carries through.

`NNNN.tsv` in the campaign's folder of packs holds one run a line, candidate and temperature in K. Files are
only ever added: a run stays in its pack, a new run makes a new pack, so that adding a row to the table leaves
finished jobs alone.
"""

from __future__ import annotations

from pathlib import Path

from ionraman.campaign import Campaign
from ionraman.settings import ConfigError, Dynamics
from ionraman.trajectory import write_atomically

Run = tuple[str, float]

_SHARED = [f"dynamics.{key}" for key in Dynamics.model_fields]


def plan_packs(campaign: Campaign, folder: Path) -> dict[str, list[Run]]:
    """Wanted runs by pack, after a pack was written for every run that had none.

    Members of a pack share all settings of the dynamics, time step, sampling interval and length among them.
    Runs that are no longer selected stay in their file and are left out of the answer; so are packs without a
    wanted run. A run whose settings were changed so that it no longer fits its pack moves to a new one: the
    last pack that names a run is the one it belongs to.

    Args:
        folder: the campaign's `packs`; created if missing.

    Raises:
        ConfigError: a pack file is not a list of candidates and temperatures.
    """

    def shared(run: Run) -> tuple:
        return tuple(campaign.setting(run[0], key) for key in _SHARED)

    wanted = campaign.runs()
    home = {run: name for name, members in read_packs(folder).items() for run in members}
    plan: dict[str, list[Run]] = {}
    homeless: list[Run] = []
    for run in wanted:
        members = plan.get(home.get(run, ""), [])
        if run in home and (not members or shared(members[0]) == shared(run)):
            plan.setdefault(home[run], []).append(run)
        else:
            homeless.append(run)

    number = max((int(path.stem) for path in _files(folder)), default=0)
    size = campaign.settings.compute.pack_size
    classes: dict[tuple, list[Run]] = {}
    for run in homeless:
        classes.setdefault(shared(run), []).append(run)
    for runs in classes.values():
        for start in range(0, len(runs), size):
            number += 1
            name, members = f"{number:04d}", runs[start : start + size]
            text = "candidate\ttemperature_K\n" + "".join(f"{run[0]}\t{run[1]:g}\n" for run in members)
            write_atomically(folder / f"{name}.tsv", text.encode())
            plan[name] = members
    return dict(sorted(plan.items(), key=lambda item: int(item[0])))


def read_packs(folder: Path) -> dict[str, list[Run]]:
    """All members of all packs, wanted or not, in order of their numbers.

    Raises:
        ConfigError: a file is not a list of candidates and temperatures.
    """
    packs = {}
    for file in _files(folder):
        header, *lines = file.read_text(encoding="utf-8").splitlines() or [""]
        try:
            if header != "candidate\ttemperature_K":
                raise ValueError
            packs[file.stem] = [(name, float(text)) for name, text in (line.split("\t") for line in lines)]
        except ValueError:
            raise ConfigError(
                [
                    f"{file}: not a pack; allowed: the header candidate, temperature_K and such pairs, "
                    "separated by tabs (packs are written by the launcher and not edited)."
                ]
            ) from None
    return packs


def _files(folder: Path) -> list[Path]:
    return sorted(
        (file for file in folder.glob("*.tsv") if file.stem.isdecimal()), key=lambda file: int(file.stem)
    )
