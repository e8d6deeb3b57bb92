"""Packs: frozen lists of runs that one job carries through.

`NNNN.tsv` in the campaign's folder of packs holds one run a line, candidate and temperature in K. Files are
only ever added: a run stays in its pack, a new run makes a new pack, so that adding a row to the table leaves
finished jobs alone.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection
from math import inf
from pathlib import Path

from ionraman.campaign import Campaign
from ionraman.resources import atoms_of, dynamics_s, speed_of, stage_steps
from ionraman.settings import ConfigError, Dynamics
from ionraman.trajectory import write_atomically

Run = tuple[str, float]

_SHARED = [f"dynamics.{key}" for key in Dynamics.model_fields]


def plan_packs(
    campaign: Campaign,
    folder: Path,
    *,
    idle: Collection[Run] = (),
    anew: Collection[Run] = (),
    write: bool = True,
) -> dict[str, list[Run]]:
    """Wanted runs by pack, after a pack was written for every run that had none.

    Members of a pack share all settings of the dynamics, time step, sampling interval and length among them. Runs that are known to
    get no trajectory share packs with one another only, so that no job asks for a GPU on their account; what is finished stays.
    Runs that are no longer selected stay in their file and are left out of the answer; so are packs without a
    wanted run. A run whose settings were changed so that it no longer fits its pack moves to a new one, which
    gets a copy of the pack's checkpoints: the last pack that names a run is the one it belongs to.

    Args:
        folder: the campaign's `packs`; created if missing.
        idle: runs that get no trajectory (`ionraman.survey.idle_runs`).
        anew: runs that leave their pack in any case, and without its checkpoints.
        write: False only plans.

    Raises:
        ConfigError: a pack file is not a list of candidates and temperatures.
    """

    def settings(name: str | None) -> tuple:
        return tuple(campaign.setting(name, key) for key in _SHARED)

    def shared(run: Run) -> tuple:
        return (run in idle and home.get(run) not in finished, *settings(run[0]))

    def staying_in(pack: str) -> tuple:
        """The settings of most members, those of the campaign in doubt."""
        counts = Counter(shared(run) for run in wanted if home.get(run) == pack)
        return max(counts, key=lambda one: (counts[one], one == (False, *settings(None))))

    wanted = campaign.runs()
    finished = {path.name.split(".")[0] for path in folder.glob("*.dynamics.json")}
    home = {run: name for name, members in read_packs(folder).items() for run in members if run not in anew}
    staying = {pack: staying_in(pack) for pack in {home[run] for run in wanted if run in home}}
    plan: dict[str, list[Run]] = {}
    leaving: dict[tuple, list[Run]] = {}
    for run in wanted:
        former = home.get(run, "")
        if former and staying[former] == shared(run):
            plan.setdefault(former, []).append(run)
        else:
            leaving.setdefault((former, run in anew, *shared(run)), []).append(run)

    number = max((int(path.stem) for path in _files(folder)), default=0)
    for (former, *_), runs in leaving.items():
        for members in _portions(campaign, runs, folder.parent / "structures"):
            number += 1
            name = f"{number:04d}"
            if write:
                if former:
                    _inherit(folder / former, folder / name)
                text = "candidate\ttemperature_K\n" + "".join(f"{run[0]}\t{run[1]:g}\n" for run in members)
                write_atomically(folder / f"{name}.tsv", text.encode())
            plan[name] = members
    return dict(sorted(plan.items(), key=lambda item: int(item[0])))


def _portions(campaign: Campaign, runs: list[Run], structures: Path) -> list[list[Run]]:
    """Runs that share their dynamics in portions of at most `pack_size` runs and, if more than one, `pack_hours` hours."""
    compute = campaign.settings.compute
    longest_s = 3600 * (compute.pack_hours or inf)
    steps = stage_steps(lambda key: campaign.setting(runs[0][0], key))
    replicas, portions, atoms = campaign.setting(runs[0][0], "dynamics.replicas"), [], 0
    for run in runs:
        built = atoms_of(structures / run[0] / "structure.json")
        own = campaign.setting(run[0], "structure.max_atoms") if built is None else built
        together_s = dynamics_s(atoms + own, steps, replicas, *speed_of(compute))
        if not portions or len(portions[-1]) == compute.pack_size or together_s > longest_s:
            portions.append([])
            atoms = 0
        portions[-1].append(run)
        atoms += own
    return portions


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


def batch_folders(pack_folder: Path) -> list[Path]:
    """Where the batches of a pack keep their checkpoints: the folder of the pack, then batch_2, batch_3 and so on in it."""
    return [pack_folder, *sorted(pack_folder.glob("batch_*"), key=_number)]


def next_batch(pack_folder: Path) -> Path:
    """Folder for a further batch: that of the pack while it holds no checkpoint."""
    alone = len(batch_folders(pack_folder)) == 1
    return pack_folder if alone and not checkpoint_files(pack_folder) else further_batch(pack_folder)


def further_batch(pack_folder: Path) -> Path:
    """Folder below that of the pack, with a number above those of the folders that are there."""
    return pack_folder / f"batch_{max(map(_number, batch_folders(pack_folder)[1:]), default=1) + 1}"


def checkpoint_files(pack_folder: Path) -> list[Path]:
    """All checkpoints of a pack, damaged ones too."""
    return [
        path
        for folder in batch_folders(pack_folder)
        for pattern in ("checkpoint*.pt", "checkpoint*.damaged")
        for path in sorted(folder.glob(pattern))
    ]


def copy_checkpoints(source: Path, target: Path) -> None:
    """Copy the checkpoints of one batch to the folder of another."""
    for path in source.glob("checkpoint*.pt"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)


def _number(batch_folder: Path) -> int:
    return int(batch_folder.name.removeprefix("batch_"))


def _inherit(source: Path, target: Path) -> None:
    for folder in batch_folders(source):
        copy_checkpoints(folder, target / folder.relative_to(source))
