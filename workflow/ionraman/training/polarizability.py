"""Fit of a polarizability ensemble, physical models and AtomicDielectricMACE, to labelled configurations.

What a physical model (`ionraman.bonds`) fitted to most of the same labels says is taken off them, so that the network, which sees few labels,
learns only what that one cannot describe; each member has its own. The rest is standardised: a constant per species is fitted to the isotropic part and
removed, and one scale makes the network's output of order one. The loss weighs isotropic and anisotropic errors by the thermal variance of each material,
so that a stiff salt counts as much as a soft sulfide (the loss that MACE ships ignores weights and leaves labels as they
are).
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mace  # noqa: F401  (before e3nn)
import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from e3nn import o3
from mace import modules

from ionraman import modelfile
from ionraman.bonds import BondModel
from ionraman.polarizability import PolarizabilityModel, species_of
from ionraman.training.physical import fit as fit_physical
from ionraman.training.physical import terms_of
from ionraman.training.settings import AlphaFit
from ionraman.trajectory import write_atomically

FEW = 4
"""Frames below which a material's thermal deviation is not taken from them alone."""
CHECKPOINT_S = 60.0
"""Seconds between checkpoints of a fit."""


class Unfinished(RuntimeError):
    """A fit stopped at its deadline; a later call goes on from there."""


@dataclass(frozen=True)
class Architecture:
    """Constructor settings of AtomicDielectricMACE that are varied; r_max in A."""

    channels: int = 16
    r_max: float = 6.0
    max_ell: int = 2
    correlation: int = 2
    layers: int = 1
    radial: int = 32

    def arguments(self, numbers: Sequence[int], neighbours: float) -> dict:
        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        n = self.channels
        return {
            "r_max": self.r_max,
            "num_bessel": 8,
            "num_polynomial_cutoff": 5,
            "max_ell": self.max_ell,
            "interaction_cls": block,
            "interaction_cls_first": block,
            "num_interactions": self.layers,
            "num_elements": len(numbers),
            "hidden_irreps": o3.Irreps(f"{n}x0e+{n}x1o+{n}x2e"),
            "MLP_irreps": o3.Irreps("16x0e+16x1o+16x2e"),
            "avg_num_neighbors": neighbours,
            "atomic_numbers": [int(z) for z in numbers],
            "correlation": self.correlation,
            "gate": torch.nn.functional.silu,
            "atomic_energies": None,
            "radial_MLP": [self.radial] * 3,
        }

    def member(self, numbers: Sequence[int], density: float) -> torch.nn.Module:
        """A member with random weights; density: atoms/A^3, from which the mean number of neighbours follows."""
        return modules.AtomicDielectricMACE(
            **self.arguments(numbers, density * 4 / 3 * np.pi * self.r_max**3)
        )


def isotropic_anisotropic(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a = tr/3 and beta = alpha - a 1 of (..., 3, 3) tensors."""
    a = np.trace(alpha, axis1=-2, axis2=-1) / 3
    return a, alpha - a[..., None, None] * np.eye(3)


def standardise(frames: Sequence[Atoms], alpha: np.ndarray) -> tuple[dict[str, float], float]:
    """Constants per species and the scale, both in A^3.

    The constants are a ridge fit of the isotropic part to the composition (compositions of a few crystals do not fix
    every species on their own); the scale is the root mean square per component of the rest, over sqrt(atoms).
    """
    species = species_of(frames)
    amounts = np.array([[atoms.symbols.count(symbol) for symbol in species] for atoms in frames], float)
    a, _ = isotropic_anisotropic(alpha)
    prior = np.full(len(species), (a / amounts.sum(axis=1)).mean())
    ridge = 1e-2 * np.trace(amounts.T @ amounts) / len(species) * np.eye(len(species))
    means = prior + np.linalg.solve(amounts.T @ amounts + ridge, amounts.T @ (a - amounts @ prior))
    rest = alpha - (amounts @ means)[:, None, None] * np.eye(3)
    scale = float(np.sqrt((rest**2).mean(axis=(1, 2)) / amounts.sum(axis=1)).mean())
    return dict(zip(species, map(float, means), strict=True)), scale


def thermal_deviation(alpha: np.ndarray, groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of a and of beta (root of the mean squared Frobenius norm) of each frame's material."""
    a, beta = isotropic_anisotropic(alpha)
    groups = np.asarray(groups)
    sd_a, sd_beta, few = np.empty(len(a)), np.empty(len(a)), np.zeros(len(a), bool)
    for group in set(groups.tolist()):
        own = groups == group
        sd_a[own] = a[own].std()
        sd_beta[own] = np.sqrt((beta[own] ** 2).sum(axis=(1, 2)).mean())
        few[own] = own.sum() < FEW
    # A material with so few frames has no deviation of its own yet: it must not dominate the loss. One with more keeps its
    # own, however stiff it is.
    for sd in (sd_a, sd_beta):
        sd[few] = np.maximum(sd[few], 0.3 * np.median(sd))
    return sd_a, sd_beta


@dataclass(frozen=True)
class Standard:
    """What is known of the labels before the network: constants per species, scale (A^3), and the physical model, if there is one."""

    means_A3: dict[str, float]
    scale_A3: float
    physical: BondModel | None

    @classmethod
    def of(
        cls, frames: Sequence[Atoms], alpha: np.ndarray, deviations: tuple, settings: AlphaFit, unseen: np.ndarray | None = None,
        tensors: Sequence[Atoms] = (),
    ) -> Standard:  # fmt: skip
        """Fitted to labels (frames, 3, 3) in A^3, and Raman tensors for the physical model; deviations from `thermal_deviation`.

        unseen: (frames,) those that the physical model of this member is not fitted to (`left_out`). Constants and scale are
        those of a fit to all, so that the members of an ensemble share them; without networks there are none.
        """
        if not settings.physical:
            return cls(*standardise(frames, alpha), None)
        constants, model = (dict.fromkeys(species_of(frames), 0.0), 1.0), terms_of(frames)
        if settings.networks:
            model = fit_physical(frames, alpha, deviations, tensors=tensors)
            constants = standardise(frames, alpha - model.predict(frames)[:, 0])
        if unseen is not None and unseen.any():
            kept, runs = np.flatnonzero(~unseen), {atoms.info["run"] for atoms, out in zip(frames, unseen, strict=True) if out}
            seen = [atoms for atoms in tensors if atoms.info["run"] not in runs]
            model = fit_physical(
                [frames[k] for k in kept], alpha[kept], tuple(sd[kept] for sd in deviations), terms=model, tensors=seen
            )
        elif not settings.networks:
            model = fit_physical(frames, alpha, deviations, tensors=tensors)
        return cls(*constants, model)

    @classmethod
    def joined(cls, members: Sequence[Standard]) -> Standard:
        """Of an ensemble, from those of its members."""
        first = members[0]
        if first.physical is None:
            return first
        parameters = np.concatenate([member.physical.parameters for member in members])
        return dataclasses.replace(first, physical=dataclasses.replace(first.physical, parameters=parameters))

    def model(self, members: list[torch.nn.Module], device: torch.device | str = "cpu") -> PolarizabilityModel:
        """An ensemble on top of it; without members, the physical models alone."""
        place = torch.device(device)
        members = [member.to(place) for member in members]
        return PolarizabilityModel(Path("."), "", list(self.means_A3), members, self.means_A3, self.scale_A3, {}, place, self.physical)

    def record(self) -> dict:
        """As JSON, for a model file."""
        known = {"standardisation": {"means_A3": self.means_A3, "scale_A3": self.scale_A3}}
        return known | ({"physical": self.physical.record()} if self.physical else {})

    @classmethod
    def from_record(cls, record: dict) -> Standard:
        """Inverse of `record`."""
        physical = BondModel.from_record(record["physical"]) if "physical" in record else None
        return cls(record["standardisation"]["means_A3"], record["standardisation"]["scale_A3"], physical)


def left_out(frames: Sequence[Atoms], member: int, members: int) -> np.ndarray:
    """(frames,) whether a frame's trajectory is one of those that the physical model of this member is not fitted to.

    The trajectories of each material are dealt to the members, so that each trajectory is unseen by one: their spread is that of a
    delete-a-group jackknife (smaller than the standard error, by the root of members - 1). Nothing is left out of a material with less than
    two trajectories, or where there is one member.
    """
    rng, unseen = np.random.default_rng(29), set()
    dealt = 0
    for material in sorted({str(atoms.info["material"]) for atoms in frames}):
        runs = sorted({str(atoms.info["run"]) for atoms in frames if atoms.info["material"] == material})
        for run in rng.permutation(runs):
            if len(runs) > 1 and members > 1 and dealt % members == member:
                unseen.add(str(run))
            dealt += 1
    return np.array([str(atoms.info["run"]) in unseen for atoms in frames])


def fit_member(
    frames: Sequence[Atoms],
    alpha: np.ndarray,
    deviations: tuple[np.ndarray, np.ndarray],
    numbers: Sequence[int],
    architecture: Architecture,
    standard: Standard,
    *,
    seed: int,
    epochs: int,
    learning_rate: float = 0.01,
    batch: int = 6,
    weight_decay: float,
    report: Callable[[str], None] = lambda _: None,
    checkpoint: Path | None = None,
    deadline: float = math.inf,
    device: torch.device | str = "cpu",
) -> torch.nn.Module:
    """Train one member; the returned weights are an exponential moving average over steps.

    Args:
        frames, alpha: configurations and their labels (frames, 3, 3) in A^3.
        deviations: of each frame's material, from `thermal_deviation`; errors count relative to them.
        numbers: atomic numbers that the model shall cover.
        standard: of the same labels.
        checkpoint: file that the fit goes on from; on a CPU the result is bit for bit that of an uninterrupted fit.
        deadline: value of time.monotonic() at which it stops.

    Raises:
        Unfinished: the deadline came first; the checkpoint holds everything.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    member = architecture.member(numbers, density(frames))
    device = torch.device(device)
    member = member.to(device)
    average = copy.deepcopy(member)
    # What the physical model says does not depend on the weights: it is taken off the labels once.
    model = dataclasses.replace(standard, physical=None).model([member], device)
    if standard.physical:
        alpha = alpha - standard.physical.predict(frames)[:, 0]
    sd_a, sd_beta = (torch.as_tensor(x, dtype=torch.float32, device=device) for x in deviations)
    target = torch.as_tensor(alpha, dtype=torch.float32, device=device)
    unit = torch.eye(3, device=device)
    optimiser = torch.optim.AdamW(
        member.parameters(), lr=learning_rate, weight_decay=weight_decay, amsgrad=True
    )
    steps = epochs * -(-len(frames) // batch)
    rise = max(0.1, min(0.9, 1.5 / steps))  # of a whole step, where there are few: torch divides by zero at the first
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=rise)
    parts = {"member": member, "average": average, "optimiser": optimiser, "schedule": schedule}
    first_epoch = _restore(checkpoint, parts, rng) if checkpoint else 0
    start = saved = time.monotonic()
    for epoch in range(first_epoch, epochs):
        if checkpoint and (time.monotonic() > deadline or time.monotonic() - saved > CHECKPOINT_S):
            _store(checkpoint, parts, rng, epoch)
            saved = time.monotonic()
        if time.monotonic() > deadline:
            raise Unfinished(f"{epoch} of {epochs} epochs")
        losses = []
        order = rng.permutation(len(frames))
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            predicted = model.differentiable([frames[k] for k in chosen])
            error = predicted - target[chosen]
            a = error.diagonal(dim1=1, dim2=2).mean(dim=1)
            beta = error - a[:, None, None] * unit
            loss = ((a / sd_a[chosen]) ** 2 + (beta**2).sum(dim=(1, 2)) / sd_beta[chosen] ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(member.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
            decay = min(0.99, 1 - 10 / (10 + epoch * len(order) / batch))
            with torch.no_grad():
                for smooth, value in zip(average.parameters(), member.parameters(), strict=True):
                    smooth.lerp_(value, 1 - decay)
        if epoch % 20 == 19:
            report(f"epoch {epoch + 1} loss {np.mean(losses):.4f} after {time.monotonic() - start:.0f} s")
    return average.eval()


def _store(path: Path, parts: dict, rng: np.random.Generator, epoch: int) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    numbers = json.dumps({"epoch": epoch, "numpy": rng.bit_generator.state})
    write_atomically(path, serialised(state | {"numbers": numbers, "torch": torch.get_rng_state()}))


def _restore(path: Path, parts: dict, rng: np.random.Generator) -> int:
    """Epoch to go on from; 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    stored = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    numbers = json.loads(stored["numbers"])
    rng.bit_generator.state = numbers["numpy"]
    torch.set_rng_state(stored["torch"])
    return numbers["epoch"]


def relative_errors(
    predicted: np.ndarray,
    alpha: np.ndarray,
    materials: Sequence[str],
    reference: tuple[np.ndarray, Sequence[str]] | None = None,
) -> dict[str, dict]:
    """Root mean square errors of a and beta per material, relative to the thermal standard deviation of each.

    reference: labels and materials that the deviations are taken from (all frames, where few are held out); None: alpha.
    """
    known, groups = (alpha, materials) if reference is None else reference
    sd_a, sd_beta = thermal_deviation(known, groups)
    a, beta = isotropic_anisotropic(predicted - alpha)
    table = {}
    for material in sorted(set(materials)):
        own, place = np.asarray(materials) == material, list(groups).index(material)
        table[material] = {
            "frames": int(own.sum()),
            "isotropic": float(np.sqrt((a[own] ** 2).mean()) / sd_a[place]),
            "anisotropic": float(np.sqrt((beta[own] ** 2).sum(axis=(1, 2)).mean()) / sd_beta[place]),
            "thermal_sd_isotropic_A3": float(sd_a[place]),
            "thermal_sd_anisotropic_A3": float(sd_beta[place]),
        }
    return table


def export(
    folder: Path | str,
    members: list[torch.nn.Module],
    numbers: Sequence[int],
    architecture: Architecture,
    standard: Standard,
    density: float,
    card: dict,
) -> None:
    """Write the ensemble as a model folder that `ionraman.polarizability.load` reads; density as in `Architecture.member`; members: networks."""
    arguments = architecture.arguments(numbers, density * 4 / 3 * np.pi * architecture.r_max**3)
    decisive = {"kind": "alpha", "elements": [chemical_symbols[z] for z in numbers]} | standard.record()
    shape = {"architecture": asdict(architecture)} if members else {}
    modelfile.save(folder, "AtomicDielectricMACE", arguments, members, decisive, card | shape)


def density(frames: Sequence[Atoms]) -> float:
    """Mean number density in atoms/A^3: exact enough for the normalisation by the number of neighbours."""
    return float(np.mean([len(atoms) / atoms.get_volume() for atoms in frames]))


def serialised(content: dict) -> bytes:
    """Tensors and plain values as bytes that torch.load reads with weights_only."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
