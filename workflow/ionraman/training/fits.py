"""Fits by the digest of what decides them: the same data, settings and member are never fitted twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ionraman import potentials
from ionraman.training import forcefield
from ionraman.training import polarizability as dielectric
from ionraman.training.record import Record
from ionraman.training.settings import AlphaFit
from ionraman.trajectory import read_json, write_atomically, write_json


@dataclass(frozen=True)
class Fit:
    """One member of one ensemble, fitted to a share of the training frames.

    kind: 'force' or 'alpha'; data: extxyz file of the set; pool: folder of all fits; share: of the training frames, drawn
    by the number of the member; root: of the project.
    """

    kind: str
    data: Path
    pool: Path
    share: float
    member: int
    device: str
    root: Path

    def go_on(self, record: Record, deadline: float, report: Callable[[str], None]) -> Path:
        """The file of the finished model; see `forcefield.fit` and `polarizability.fit_member` for what it raises."""
        frames = ase.io.read(self.data, ":")
        settings = getattr(record.training, self.kind)
        tensors = [self.root / file for file in settings.tensors] if self.kind == "alpha" else []
        content = b"".join(file.read_bytes() for file in (self.data, *tensors))
        digest = hashlib.sha256(settings.model_dump_json().encode() + content).hexdigest()[:16]
        folder = self.pool / f"{self.kind}-{digest}" / f"{self.share:g}-{self.member}"
        held_out = {atoms.info["run"] for atoms in frames if atoms.info["split"] == "test"}
        frames = [atoms for atoms in frames if atoms.info["split"] in ("train", "valid")]
        if self.kind == "force":
            train, valid = forcefield.separate_valid(frames)
            foundation = record.models["force"].get(settings.foundation)
            module = (
                potentials.load(self.root / foundation["path"], foundation["sha256"]).module
                if foundation
                else None
            )
            return forcefield.fit(
                self._part(train), valid, folder, settings, seed=self.member, deadline=deadline, device=self.device,
                foundation=module, report=report,
            )  # fmt: skip
        followed = [atoms for atoms in read_tensors(tensors) if atoms.info["run"] not in held_out]
        return self._alpha(self._part(frames), followed, folder, settings, deadline, report)

    def _part(self, frames: list[Atoms]) -> list[Atoms]:
        if self.share == 1:
            return frames
        rng = np.random.default_rng([self.member, 23])
        chosen = sorted(rng.permutation(len(frames))[: max(2, round(self.share * len(frames)))])
        part = [frames[k] for k in chosen]
        missing = {z for atoms in frames for z in atoms.numbers} - {
            z for atoms in part for z in atoms.numbers
        }
        # An element that is not drawn could not be predicted at all.
        return part + [next(atoms for atoms in frames if z in atoms.numbers) for z in sorted(missing)]

    def _alpha(
        self,
        frames: list[Atoms],
        tensors: list[Atoms],
        folder: Path,
        settings: AlphaFit,
        deadline: float,
        report: Callable[[str], None],
    ) -> Path:
        file = folder / "member.pt"
        if file.exists():
            return file
        folder.mkdir(parents=True, exist_ok=True)
        alpha, materials = labels_of(frames)
        deviations = dielectric.thermal_deviation(alpha, materials)
        numbers = [atomic_numbers[symbol] for symbol in dielectric.species_of(frames)]
        known = folder / "standard.json"  # kept: a fit that goes on must not hang on the last digit of another
        if not known.exists():
            unseen = dielectric.left_out(frames, self.member % settings.members, settings.members)
            write_json(known, dielectric.Standard.of(frames, alpha, deviations, settings, unseen, tensors).record())
        standard = dielectric.Standard.from_record(read_json(known))
        weights = {}
        if settings.networks:
            member = dielectric.fit_member(
                frames, alpha, deviations, numbers, architecture(settings), standard, seed=self.member, epochs=settings.epochs,
                learning_rate=settings.learning_rate, batch=settings.batch_size, weight_decay=settings.weight_decay, report=report,
                checkpoint=folder / "checkpoint.pt", deadline=deadline, device=self.device,
            )  # fmt: skip
            weights = {key: value.cpu() for key, value in member.state_dict().items()}
        content = {
            "weights": weights,
            "numbers": numbers,
            "standard": json.dumps(standard.record()),
            "density": dielectric.density(frames),
        }
        write_atomically(file, dielectric.serialised(content))
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        return file


def labels_of(frames: list[Atoms]) -> tuple[np.ndarray, list[str]]:
    """Polarizabilities (frames, 3, 3) in A^3 and the material of each frame."""
    alpha = np.array([np.reshape(atoms.info["alpha_A3"], (3, 3)) for atoms in frames])
    return alpha, [str(atoms.info["material"]) for atoms in frames]


def read_tensors(files: Sequence[Path]) -> list[Atoms]:
    """Configurations with Raman tensors.

    Raises:
        FitFailed: a file is not one of `scripts/training/raman_tensors.py`; it names the frame and what is missing.
    """
    found = []
    for file in files:
        for number, atoms in enumerate(ase.io.read(file, ":")):
            wanted = {"dalpha_dr_A2": (len(atoms), 27), "hessian_eV_A2": (len(atoms), 9 * len(atoms))}
            shapes = {key: atoms.arrays.get(key, np.empty(0)).shape for key in wanted}
            missing = [key for key in ("material", "run", "epsilon") if key not in atoms.info]
            found_instead = [f"an array {key} of shape {shapes[key]}, not {shape}" for key, shape in wanted.items() if shapes[key] != shape]
            if missing or found_instead:
                what = f"no {', '.join(missing)} in its info" if missing else found_instead[0]
                raise forcefield.FitFailed(f"training.alpha.tensors, {file}[{number}]: found {what}; scripts/training/raman_tensors.py writes such files.")
            found.append(atoms)
    return found


def architecture(settings: AlphaFit) -> dielectric.Architecture:
    """Architecture of a member as the settings have it."""
    names = ("channels", "r_max", "max_ell", "correlation", "layers", "radial")
    return dielectric.Architecture(**{name: getattr(settings, name) for name in names})


def load_members(
    files: list[Path], settings: AlphaFit
) -> tuple[list[torch.nn.Module], list[int], dielectric.Standard, float]:
    """Networks of one ensemble (none if they are off), atomic numbers, standardisation, and number density (atoms/A^3) for the export."""
    contents = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    first = contents[0]
    members = []
    for content in contents if settings.networks else []:
        member = architecture(settings).member(content["numbers"], content["density"])
        member.load_state_dict(content["weights"])
        members.append(member.eval())
    standards = [dielectric.Standard.from_record(json.loads(content["standard"])) for content in contents]
    return members, first["numbers"], dielectric.Standard.joined(standards), first["density"]
