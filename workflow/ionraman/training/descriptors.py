"""Descriptors of configurations and the choice of a diverse subset of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

BINS = np.linspace(1.5, 6.0, 19)
"""Centres of the radial bins, A, each 0.25 A wide (Gaussian)."""


def pair_descriptors(frames: Sequence[Atoms]) -> np.ndarray:
    """(frames, features): for each pair of species, mean and spread over atoms of the smoothed number of neighbours at each distance.

    It sees distances, not angles; used where the sampling model is no MACE and has no features of its own.
    """
    species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    rows = []
    for atoms in frames:
        first, second, distance = neighbor_list("ijd", atoms, 6.5)
        weight = np.exp(-(((distance[:, None] - BINS) / 0.25) ** 2)) / np.maximum(distance[:, None], 1) ** 2
        features = []
        for a in species:
            for b in species:
                own = (atoms.numbers[first] == a) & (atoms.numbers[second] == b)
                per_atom = np.zeros((len(atoms), len(BINS)))
                np.add.at(per_atom, first[own], weight[own])
                chosen = per_atom[atoms.numbers == a]
                features += (
                    [*chosen.mean(axis=0), *chosen.std(axis=0)] if len(chosen) else [0.0] * (2 * len(BINS))
                )
        rows.append(features)
    return np.array(rows)


def mace_descriptors(calculator, frames: Sequence[Atoms]) -> np.ndarray:
    """(frames, features): mean and spread over the atoms of each species of a MACE model's invariant features."""
    species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    rows = []
    for atoms in frames:
        features = np.asarray(calculator.get_descriptors(atoms, invariants_only=True))
        parts = []
        for z in species:
            own = features[atoms.numbers == z]
            zero = np.zeros(features.shape[1])
            parts += [own.mean(axis=0), own.std(axis=0)] if len(own) else [zero, zero]
        rows.append(np.concatenate(parts))
    return np.array(rows)


def farthest_points(features: np.ndarray, count: int) -> list[int]:
    """Indices of `count` rows, each the farthest from those chosen before; the first is the nearest to the mean.

    Features are divided by their standard deviation over the rows, so that none decides by its unit.
    """
    count = min(count, len(features))
    if count == 0:
        return []
    scaled = features - features.mean(axis=0)
    spread = scaled.std(axis=0)
    scaled = (
        scaled[:, spread > 1e-9 * max(spread.max(), 1e-30)] / spread[spread > 1e-9 * max(spread.max(), 1e-30)]
    )
    chosen = [int(np.argmin((scaled**2).sum(axis=1)))]
    distance = ((scaled - scaled[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count:
        distance[chosen[-1]] = -1.0
        chosen.append(int(np.argmax(distance)))
        distance = np.where(
            distance < 0, -1.0, np.minimum(distance, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
        )
    return chosen
