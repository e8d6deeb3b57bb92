"""Configurations with labels of a physical model, which a network learns before, and beside, the few from first principles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ionraman.training.physical import PhysicalModel
from ionraman.training.polarizability import thermal_deviation

RATTLE_A = (0.02, 0.1)
"""Range of the standard deviation of a Cartesian displacement."""
STRAIN = 0.01
"""Standard deviation of a component of the strain."""


def rattled_copies(frames: Sequence[Atoms], materials: Sequence[str], count: int, seed: int) -> list[int]:
    """`count` numbers of frames, every material equally often and its frames in turn."""
    rng = np.random.default_rng([seed, 41])
    names = sorted(set(materials))
    turns = {name: [k for k in rng.permutation(len(frames)) if materials[k] == name] for name in names}
    return [int(turns[name][k // len(names) % len(turns[name])]) for k, name in ((k, names[k % len(names)]) for k in range(count))]


def synthetic_labels(
    frames: Sequence[Atoms], alpha: np.ndarray, materials: Sequence[str], count: int, seed: int = 0
) -> tuple[list[Atoms], np.ndarray, list[str]]:
    """Rattled and strained copies of labelled frames, and what a physical model fitted to their labels says of them.

    Args:
        frames, alpha, materials: labelled configurations, (frames, 3, 3) in A^3, name of each one's material.
        count: copies, every material equally often.

    Returns:
        Configurations, polarizabilities (count, 3, 3) in A^3, materials.
    """
    model = PhysicalModel.of(frames).fit(frames, alpha, thermal_deviation(alpha, materials))
    rng = np.random.default_rng([seed, 43])
    chosen = rattled_copies(frames, materials, count, seed)
    copies = []
    for k in chosen:
        strain = rng.normal(0, STRAIN, (3, 3))
        atoms = Atoms(frames[k].numbers, frames[k].positions, cell=frames[k].cell, pbc=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(*RATTLE_A), atoms.positions.shape)
        copies.append(atoms)
    return copies, model.predict(copies), [materials[k] for k in chosen]
