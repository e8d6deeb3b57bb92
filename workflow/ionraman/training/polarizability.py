"""Fit of an AtomicDielectricMACE ensemble to labelled configurations.

Labels are standardised first: a constant per species is fitted to the isotropic part and removed, and one scale makes the
network's output of order one. The loss weighs isotropic and anisotropic errors by the thermal variance of each material,
so that a stiff salt counts as much as a soft sulfide (the loss that MACE ships ignores weights and leaves labels as they
are).
"""

from __future__ import annotations

import copy
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
from ionraman.polarizability import PolarizabilityModel, species_of


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
    sd_a, sd_beta = np.empty(len(a)), np.empty(len(a))
    for group in set(groups.tolist()):
        own = groups == group
        sd_a[own] = a[own].std()
        sd_beta[own] = np.sqrt((beta[own] ** 2).sum(axis=(1, 2)).mean())
    # A material with one or two frames has no deviation of its own yet: it must not dominate the loss.
    return np.maximum(sd_a, 0.3 * np.median(sd_a)), np.maximum(sd_beta, 0.3 * np.median(sd_beta))


def fit_member(
    frames: Sequence[Atoms],
    alpha: np.ndarray,
    materials: Sequence[str],
    numbers: Sequence[int],
    architecture: Architecture,
    standard: tuple[dict[str, float], float],
    *,
    seed: int,
    epochs: int,
    learning_rate: float = 0.01,
    batch: int = 6,
    weight_decay: float = 1e-5,
    report: Callable[[str], None] = lambda _: None,
) -> torch.nn.Module:
    """Train one member; the returned weights are an exponential moving average over steps.

    Args:
        frames, alpha: configurations and their labels (frames, 3, 3) in A^3.
        materials: name of the material of each frame; errors are weighed by its thermal deviation.
        numbers: atomic numbers that the model shall cover.
        standard: from `standardise`.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    member = modules.AtomicDielectricMACE(
        **architecture.arguments(numbers, _neighbours(frames, architecture.r_max))
    )
    average = copy.deepcopy(member)
    means, scale = standard
    model = PolarizabilityModel(Path("."), "", [member], means, scale, {}, torch.device("cpu"))
    sd_a, sd_beta = (torch.as_tensor(x, dtype=torch.float32) for x in thermal_deviation(alpha, materials))
    target = torch.as_tensor(alpha, dtype=torch.float32)
    optimiser = torch.optim.AdamW(
        member.parameters(), lr=learning_rate, weight_decay=weight_decay, amsgrad=True
    )
    steps = epochs * -(-len(frames) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    start = time.monotonic()
    for epoch in range(epochs):
        losses = []
        order = rng.permutation(len(frames))
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            predicted = model.differentiable([frames[k] for k in chosen])
            error = predicted - target[chosen]
            a = error.diagonal(dim1=1, dim2=2).mean(dim=1)
            beta = error - a[:, None, None] * torch.eye(3)
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


def relative_errors(predicted: np.ndarray, alpha: np.ndarray, materials: Sequence[str]) -> dict[str, dict]:
    """Root mean square errors of a and beta per material, relative to the thermal standard deviation of each."""
    sd_a, sd_beta = thermal_deviation(alpha, materials)
    a, beta = isotropic_anisotropic(predicted - alpha)
    table = {}
    for material in sorted(set(materials)):
        own = np.asarray(materials) == material
        table[material] = {
            "frames": int(own.sum()),
            "isotropic": float(np.sqrt((a[own] ** 2).mean()) / sd_a[own][0]),
            "anisotropic": float(np.sqrt((beta[own] ** 2).sum(axis=(1, 2)).mean()) / sd_beta[own][0]),
            "thermal_sd_isotropic_A3": float(sd_a[own][0]),
            "thermal_sd_anisotropic_A3": float(sd_beta[own][0]),
        }
    return table


def export(
    folder: Path | str,
    members: list[torch.nn.Module],
    frames: Sequence[Atoms],
    numbers: Sequence[int],
    architecture: Architecture,
    standard: tuple[dict[str, float], float],
    card: dict,
) -> None:
    """Write the ensemble as a model folder that `ionraman.polarizability.load` reads."""
    arguments = architecture.arguments(numbers, _neighbours(frames, architecture.r_max))
    means, scale = standard
    elements = [chemical_symbols[z] for z in numbers]
    decisive = {
        "kind": "alpha",
        "elements": elements,
        "standardisation": {"means_A3": means, "scale_A3": scale},
    }
    modelfile.save(folder, arguments, members, decisive, card | {"architecture": asdict(architecture)})


def _neighbours(frames: Sequence[Atoms], r_max: float) -> float:
    """Mean number of neighbours within r_max (A), from the density: exact enough for a normalisation."""
    return float(np.mean([len(atoms) / atoms.get_volume() for atoms in frames]) * 4 / 3 * np.pi * r_max**3)
