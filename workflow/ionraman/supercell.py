"""Supercells: the smallest one, diagonal or not, whose periodic images are far enough apart.

All superlattices of a lattice are enumerated by Hermite normal forms (Santoro and Mighell, Acta Cryst. A 28,
284 (1972); Hart and Forcade, Phys. Rev. B 77, 224115 (2008)), and their shortest vectors are found exactly:
the shortest lattice vector of the parent that is also a vector of the superlattice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations

import numpy as np

_TOLERANCE_A = 1e-6


@dataclass(frozen=True)
class Supercell:
    """Rows of `matrix` (integers) times the parent's vectors are the vectors of the cell, which is
    right-handed."""

    matrix: np.ndarray
    image_A: float


@cache
def hermite_normal_forms(index: int) -> np.ndarray:
    """All (n, 3, 3) lower-triangular row-style Hermite normal forms of determinant `index`: one for each
    superlattice."""
    forms = []
    for a in (d for d in range(1, index + 1) if index % d == 0):
        for b in (d for d in range(1, index // a + 1) if (index // a) % d == 0):
            c = index // a // b
            p, q, r = (grid.ravel() for grid in np.meshgrid(range(a), range(a), range(b), indexing="ij"))
            form = np.zeros((len(p), 3, 3), dtype=np.int64)
            form[:, 0, 0], form[:, 1, 1], form[:, 2, 2] = a, b, c
            form[:, 1, 0], form[:, 2, 0], form[:, 2, 1] = p, q, r
            forms.append(form)
    return np.concatenate(forms)


def search(lattice: np.ndarray, max_index: int, min_image_A: float) -> tuple[Supercell | None, bool]:
    """The smallest supercell with images at least `min_image_A` apart, or else the one with the largest
    distance.

    Args:
        lattice: (3, 3) vectors of the parent as rows, A.
        max_index: most parent cells in the supercell.
        min_image_A: wanted shortest distance between periodic images, A.

    Returns:
        The supercell (None if max_index < 1) and whether it meets the distance. Among cells of equal volume
        the largest distance wins, then the most point symmetry of the parent kept, then the shortest vectors,
        then the fewest entries.
    """
    if max_index < 1:
        return None, False
    volume = abs(np.linalg.det(lattice))
    # No lattice packs better than fcc: d^3 <= sqrt(2) V.
    vectors, lengths = _short_vectors(lattice, (np.sqrt(2) * max_index * volume) ** (1 / 3) + _TOLERANCE_A)
    smallest = int(np.ceil((min_image_A - _TOLERANCE_A) ** 3 / (np.sqrt(2) * volume)))
    for index in range(max(smallest, 1), max_index + 1):
        forms = hermite_normal_forms(index)
        images = _image_distances(forms, vectors, lengths)
        if images.max() >= min_image_A - _TOLERANCE_A:
            return _best(lattice, forms, images), True
    best = (0.0, 1)
    for index in range(max_index, 0, -1):
        if (np.sqrt(2) * index * volume) ** (1 / 3) < best[0] - _TOLERANCE_A:
            break
        longest = float(_image_distances(hermite_normal_forms(index), vectors, lengths).max())
        if longest > best[0] - _TOLERANCE_A:
            best = max(longest, best[0]), index
    forms = hermite_normal_forms(best[1])
    return _best(lattice, forms, _image_distances(forms, vectors, lengths)), False


def _short_vectors(lattice: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Integer coefficients (m, 3) of the lattice vectors up to `radius`, one of each pair +-v, by length (m,)
    in A."""
    reach = np.ceil(radius * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    grid = grid[len(grid) // 2 + 1 :]  # the grid is symmetric about its middle, the zero vector
    lengths = np.linalg.norm(grid @ lattice, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    return grid[order], lengths[order]


def _image_distances(forms: np.ndarray, vectors: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Length (n,) of the shortest of `vectors` that belongs to each superlattice, A."""
    index = int(round(np.linalg.det(forms[0])))
    adjugates = np.rint(np.linalg.inv(forms) * index).astype(np.int64)
    images = np.full(len(forms), np.inf)
    # v belongs to the superlattice H if v adj(H) is a multiple of det(H); the shortest first.
    for start in range(0, len(vectors), 32):
        open_ = np.flatnonzero(np.isinf(images))
        if not len(open_):
            break
        block = slice(start, start + 32)
        belongs = ((vectors[block] @ adjugates[open_]) % index == 0).all(axis=2)
        hit = belongs.any(axis=1)
        images[open_[hit]] = lengths[block][belongs[hit].argmax(axis=1)]
    return images


def _best(lattice: np.ndarray, forms: np.ndarray, images: np.ndarray) -> Supercell:
    forms = forms[images >= images.max() - _TOLERANCE_A]
    kept = _kept_symmetry(lattice, forms)
    forms = forms[kept == kept.max()]
    cells = [_compact(lattice, form) for form in forms]
    matrix = min(
        cells,
        key=lambda m: (
            round(float(np.sort(np.linalg.norm(m @ lattice, axis=1)).sum()), 4),
            int(np.count_nonzero(m)),
            m.ravel().tolist(),
        ),
    )
    return Supercell(matrix, float(images.max()))


def _kept_symmetry(lattice: np.ndarray, forms: np.ndarray) -> np.ndarray:
    """How many rotations of the parent lattice map each superlattice onto itself, (n,)."""
    index = int(round(np.linalg.det(forms[0])))
    adjugates = np.rint(np.linalg.inv(forms) * index).astype(np.int64)
    kept = np.zeros(len(forms), dtype=int)
    for rotation in _lattice_rotations(lattice):
        kept += ((forms @ rotation @ adjugates) % index == 0).all(axis=(1, 2))
    return kept


def _lattice_rotations(lattice: np.ndarray) -> list[np.ndarray]:
    """Integer matrices R with (R L)(R L)^T = L L^T: the point group of the lattice, acting on row
    coefficients."""
    metric = lattice @ lattice.T
    tolerance = 1e-4 * metric.diagonal().max()
    vectors, _ = _short_vectors(lattice, np.sqrt(metric.diagonal().max()) + 1e-4)
    vectors = np.concatenate([vectors, -vectors])
    squares = np.einsum("ni,ij,nj->n", vectors, metric, vectors)
    first, second, third = (vectors[np.abs(squares - metric[i, i]) < tolerance] for i in range(3))
    rotations = []
    for a in first:
        for b in second[np.abs(second @ metric @ a - metric[0, 1]) < tolerance]:
            fits = (np.abs(third @ metric @ a - metric[0, 2]) < tolerance) & (
                np.abs(third @ metric @ b - metric[1, 2]) < tolerance
            )
            rotations += [np.array([a, b, c]) for c in third[fits]]
    return rotations


def _compact(lattice: np.ndarray, form: np.ndarray) -> np.ndarray:
    """The matrix of the same superlattice with the shortest vectors, as a right-handed cell.

    Minkowski reduction leaves the choice among vectors of equal length to rounding errors; here it is made by
    integers, so that every machine builds the same cell.
    """
    from ase.geometry import minkowski_reduce

    _, operation = minkowski_reduce(form @ lattice)
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[14:]
    vectors = steps @ np.rint(operation @ form).astype(int)
    signs = np.sign(
        vectors.sum(axis=1) * 1000 + vectors @ [9, 3, 1]
    )  # of the sum, or of the first entry if that is 0
    vectors *= signs[:, None].astype(int)
    lengths = np.linalg.norm(vectors @ lattice, axis=1).round(4)
    vectors = vectors[np.lexsort((*vectors.T[::-1], lengths))]
    index = round(np.linalg.det(form))
    for rows in combinations(range(len(vectors)), 3):
        if abs(round(np.linalg.det(vectors[list(rows)]))) == index:
            orders = (vectors[list(order)] for order in permutations(rows))
            return max((m for m in orders if np.linalg.det(m @ lattice) > 0), key=lambda m: abs(np.trace(m)))
    raise AssertionError("a reduced basis is one of the combinations")
