"""Survey of a campaign before it runs: what can be built and is covered by the models, what it costs, and its budget."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ionraman.campaign import Campaign
from ionraman.digests import model_sha256
from ionraman.estimate import Load, Speeds, architecture, pack_hours, read_probe, read_speeds, run_bytes
from ionraman.packs import Run, plan_packs
from ionraman.protocol import Protocol
from ionraman.settings import Dynamics, Structure
from ionraman.trajectory import read_json, write_json

SPEED_TABLE = "workflow/data/speed.tsv"
SURVEY = "survey.json"
"""File in the campaign's folder with what an earlier survey found."""


@dataclass(frozen=True)
class Row:
    """One run as it would be: `note` says what is wrong with it, `computed` whether it gets a trajectory at all."""

    run: Run
    pack: str
    atoms: int | None
    image_A: float | None
    computed: bool
    note: str
    bytes: int


@dataclass(frozen=True)
class Survey:
    """hours: of each pack, None where the speed of the device is unknown; spent_h: measured, of finished packs."""

    rows: list[Row]
    speeds: Speeds | None
    device: str
    hours: dict[str, float | None]
    spent_h: dict[str, float]

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.rows)

    @property
    def total_h(self) -> float | None:
        """Hours of all jobs on the device: measured where a pack is finished, estimated otherwise."""
        hours = [self.spent_h.get(pack, estimate) for pack, estimate in self.hours.items()]
        return None if None in hours else sum(hours)


def survey(campaign: Campaign, root: Path) -> Survey:
    """Build every structure (in memory), compare elements with the models, and estimate the cost.

    Structures that were built before from the same input are taken from survey.json in the campaign's folder.
    """
    folder = root / campaign.folder
    covered = {kind: model_elements(root / entry.path) for kind, entry in campaign.models.items()}
    cells = _cells(campaign, root, folder / SURVEY, build=True)
    judged = {candidate.name: _judge(cells[candidate.name], covered, _protocol(campaign, candidate.name)) for candidate in campaign.candidates}
    idle = {run for run in campaign.runs() if not judged[run[0]][0]}
    packs = plan_packs(campaign, folder / "packs", idle=idle, write=False)
    rows, loads = [], {}
    for pack, runs in packs.items():
        for run in runs:
            cell, (computed, note) = cells[run[0]], judged[run[0]]
            load = Load(cell.get("atoms", 0), len(cell.get("species", [])), _protocol(campaign, run[0]))
            if computed:
                loads.setdefault(pack, []).append(load)
            size = run_bytes(load, alpha_members(root / campaign.models["alpha"].path)) if computed else 0
            rows.append(Row(run, pack, cell.get("atoms"), cell.get("image_A"), computed, note, size))
    device, speeds = _speeds(campaign, root, folder)
    hours = {
        pack: pack_hours(loads[pack], speeds)
        if pack in loads and speeds
        else (None if pack in loads else 0.0)
        for pack in packs
    }
    digests = {entry.sha256 or model_sha256(root / entry.path) for entry in campaign.models.values()}
    spent = {pack: h for pack in packs if (h := _spent_h(folder, pack, digests)) is not None}
    return Survey(rows, speeds, device, hours, spent)


def idle_runs(campaign: Campaign, root: Path) -> set[Run]:
    """Runs of which the last survey (`check`, or a launch) knows that they get no trajectory; nothing is built.

    A structure file, settings or models that changed since count as they are now.
    """
    covered = {kind: model_elements(root / entry.path) for kind, entry in campaign.models.items()}
    cells = _cells(campaign, root, root / campaign.folder / SURVEY, build=False)
    idle = {name for name, cell in cells.items() if not _judge(cell, covered, _protocol(campaign, name))[0]}
    return {run for run in campaign.runs() if run[0] in idle}


def over_budget(campaign: Campaign, found: Survey) -> list[str]:
    """A sentence for each limit of `budget` that the campaign exceeds or that cannot be checked."""
    budget, problems = campaign.settings.budget, []
    if budget.gpu_hours is not None:
        if found.total_h is None:
            problems.append(
                f"budget.gpu_hours is {budget.gpu_hours:g}, but the speed of {campaign.settings.models.force!r} on {found.device} "
                "is not known: measure it with scripts/campaign check --probe."
            )
        elif found.total_h > budget.gpu_hours:
            problems.append(
                f"The campaign takes {found.total_h:.3g} hours on {found.device}, more than budget.gpu_hours, {budget.gpu_hours:g}."
            )
    if budget.disk_GB is not None and found.bytes > budget.disk_GB * 1e9:
        problems.append(
            f"The campaign writes {found.bytes / 1e9:.3g} GB, more than budget.disk_GB, {budget.disk_GB:g}."
        )
    return problems


def model_elements(path: Path) -> list[str]:
    """Elements that a model covers; a MACE .model file, which must be run to be read, answers []: not known here."""
    file = path / "model.json"
    return read_json(file)["elements"] if file.exists() else []


def alpha_members(path: Path) -> int:
    """Members of the ensemble of a model folder."""
    return len(list(path.glob("member_*.safetensors"))) or 1


def _protocol(campaign: Campaign, name: str) -> Protocol:
    return Protocol(**{k: campaign.setting(name, f"dynamics.{k}") for k in Dynamics.model_fields})


def _cells(campaign: Campaign, root: Path, cache: Path, build: bool) -> dict[str, dict]:
    """Atoms, image distance and species of every candidate's cell, or why it cannot be built; without `build` the known ones."""
    known = read_json(cache) if cache.exists() else {}
    cells, fresh = {}, dict(known)  # rows that are not selected today may be tomorrow
    if not (known or build):
        return cells
    for candidate in campaign.candidates:
        file = root / campaign.structure_file(candidate.name)
        options = {k: campaign.setting(candidate.name, f"structure.{k}") for k in Structure.model_fields}
        options |= {"mobile": candidate.mobile, "carriers": candidate.carriers}
        text = file.read_bytes() + json.dumps(options, sort_keys=True).encode()
        key = hashlib.sha256(text).hexdigest()
        if key not in fresh:
            if not build:
                continue
            fresh[key] = _build(file, options)
        cells[candidate.name] = fresh[key]
    if fresh != known:
        write_json(cache, fresh)
    return cells


def _build(file: Path, options: dict) -> dict:
    from ionraman.structures import StructureInvalid, build

    try:
        built = build(file, **options)
    except StructureInvalid as error:
        return {"reason": str(error)}
    record = built.record
    met = "" if record["image_distance_met"] else f"images {record['shortest_image_A']:.1f} A apart"
    return {
        "atoms": record["n_atoms"],
        "image_A": record["shortest_image_A"],
        "species": sorted(set(built.atoms.get_chemical_symbols())),
        "note": met,
    }


def _judge(cell: dict, covered: dict[str, list[str]], protocol: Protocol) -> tuple[bool, str]:
    """Whether dynamics will be run, and what there is to say."""
    if "reason" in cell:
        return False, f"invalid: {cell['reason']}"
    if "H" in cell["species"] and protocol.timestep_fs > 0.5:
        return False, f"invalid: hydrogen needs timestep_fs of at most 0.5; found {protocol.timestep_fs:g}"
    missing = {kind: sorted(set(cell["species"]) - set(known)) for kind, known in covered.items() if known}
    if missing.get("force"):
        return False, f"unsupported: the force field does not cover {', '.join(missing['force'])}"
    if missing.get("alpha"):
        return True, f"no marker: the polarizability model does not cover {', '.join(missing['alpha'])}"
    return True, cell["note"]


def _speeds(campaign: Campaign, root: Path, folder: Path) -> tuple[str, Speeds | None]:
    """Device that the jobs will use as far as it is known here, and its speeds: a probe's before the table's."""
    wanted, model = campaign.settings.compute.device, architecture(root / campaign.models["force"].path)
    probe = read_probe(folder / "probe.json", model)
    if probe and wanted in ("auto", probe.device):
        return probe.device, probe
    if wanted == "auto":
        import torch

        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return wanted, read_speeds(root / SPEED_TABLE, wanted, model)


def _spent_h(folder: Path, pack: str, digests: set[str]) -> float | None:
    """Hours that the jobs of a pack took, once both are over, with models of these SHA-256."""
    seals = [folder / "packs" / f"{pack}.{stage}.json" for stage in ("dynamics", "polarizability")]
    if not all(seal.exists() for seal in seals):
        return None
    dynamics, alpha = map(read_json, seals)
    used = {record.get(f"{kind}_model_sha256") for part, kind in ((dynamics, "force"), (alpha, "alpha")) for record in part.values()}
    if used - digests - {None}:  # one of them is another now, and its part will run again
        return None
    seconds = max((record.get("seconds", 0) for record in dynamics.values()), default=0)
    return (seconds + sum(record.get("seconds", 0) for record in alpha.values())) / 3600
