"""Whether the host of a finished run has molten: displacement of its polyanions and framework cations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list

BOND = 1.25
"""Longest bond as a multiple of the sum of covalent radii."""

MELTED = 0.4
"""Displacement that means melting, as a share of the nearest distance between centres. The Lindemann limit is 0.1-0.15
for the instant amplitude; time-averaged centres of a crystal do not move at all."""

_UNBONDED = {"Li", "Na", "K", "Rb", "Cs", "Ca", "Sr", "Ba"}
_CATIONS = {"P", "Sb", "As", "W", "Mo", "Sn", "Ge", "Si", "Zr", "Ti", "Al", "Ga", "In", "Y", "La", "Ta", "Nb", "B",
            "Zn", "Hf", "Sc", "Bi", "V", "Mg", "C", "N"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class HostCentres:
    """Points of the host whose diffusion means that it has molten."""

    weights: np.ndarray  # (centres, atoms), of the atoms' positions; rows add up to 1
    limit_A: float  # displacement that means melting


def host_centres(atoms: Atoms, mobile: str) -> HostCentres | None:
    """Centres of the host of a start structure; None for fewer than two, whose motion cannot be told from drift.

    A bonded cluster of host atoms (polyanion) is one centre, its centre of mass, because it may rotate in a sound
    crystal; a lone ion is one too. Of a network without end (oxide frameworks) each framework cation is a centre, or
    each atom where it has none. Alkali and heavy alkaline-earth ions bond to nothing.

    Args:
        atoms: the cell, periodic in all directions.
        mobile: symbol of the mobile species; all others are the host.
    """
    symbols = np.array(atoms.get_chemical_symbols())
    host = np.flatnonzero(symbols != mobile)
    weights, points = [], []
    for cluster, offsets in _clusters(atoms[host]):
        members = host[cluster]
        if offsets is None:
            cations = members[np.isin(symbols[members], sorted(_CATIONS))]
            groups = [np.array([atom]) for atom in (cations if len(cations) else members)]
            positions = [atoms.positions[group] for group in groups]
        else:
            groups, positions = [members], [atoms.positions[members] + offsets @ atoms.cell.array]
        for group, places in zip(groups, positions, strict=True):
            weight = np.zeros(len(atoms))
            weight[group] = atoms.get_masses()[group]
            weights.append(weight / weight.sum())
            points.append(weights[-1][group] @ places)
    if len(points) < 2:
        return None
    return HostCentres(np.array(weights), MELTED * _nearest(np.array(points), atoms.cell.array))


def centre_displacement(mean_start: np.ndarray, mean_end: np.ndarray, centres: HostCentres) -> float:
    """Root mean square displacement of the host's centres, of the replica where it is largest, in A.

    Drift of the centres together is removed. Melting shows only once they have gone limit_A: a host whose D is below
    limit_A^2/(6 t) passes. For centres 6.1 A apart and 26.7 ps that is 4e-6 cm^2/s.

    Args:
        mean_start, mean_end: (replicas, atoms, 3) unwrapped positions averaged over at least 1 ps at the start and
            the end, A.
        centres: from the start structure.
    """
    moved = centres.weights @ (mean_end - mean_start)
    moved = moved - moved.mean(axis=1, keepdims=True)
    return float(np.sqrt((moved**2).sum(axis=2).mean(axis=1).max()))


def _clusters(host: Atoms) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Atoms (n,) of each bonded cluster and the lattice vectors (n, 3) that join them, None for one without end."""
    radii = [
        0.0 if atom.symbol in _UNBONDED else BOND * radius
        for atom, radius in zip(host, natural_cutoffs(host), strict=True)
    ]
    bonds: list[list] = [[] for _ in host]
    for i, j, shift in zip(*neighbor_list("ijS", host, radii), strict=True):
        bonds[i].append((j, shift))
    clusters, offsets = [], {}
    for start in range(len(host)):
        if start in offsets:
            continue
        offsets[start] = np.zeros(3, dtype=int)
        cluster, endless = [start], False
        for atom in cluster:  # grows while it is read
            for other, shift in bonds[atom]:
                if other not in offsets:
                    offsets[other] = offsets[atom] + shift
                    cluster.append(other)
                endless |= (offsets[other] != offsets[atom] + shift).any()
        joined = None if endless else np.array([offsets[atom] for atom in cluster])
        clusters.append((np.array(cluster), joined))
    return clusters


def _nearest(points: np.ndarray, cell: np.ndarray) -> float:
    """Shortest distance between points (n, 3) of a periodic cell, A."""
    fractional = points @ np.linalg.inv(cell)
    points = (fractional - np.floor(fractional)) @ cell
    images = np.array(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij")).reshape(3, -1).T @ cell
    distance = np.linalg.norm(points[:, None, None] - points[None, :, None] + images, axis=-1)
    return float(distance[distance > 1e-3].min())
