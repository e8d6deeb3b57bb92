"""Potential, field and higher gradients of the ions' formal charges at the ions of periodic cells: an Ewald sum of reciprocal space alone.

The charges are Gaussians of width `WIDTH_A`: what a point charge does nearby is told by the functions of distance of `ionraman.bonds`; this tells
what is far. k = 0 is left out, so that a cell that is not neutral sits in a uniform background. Cost grows as the square of the cell.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ionraman.dipoles import EXACTNESS, wave_vectors

WIDTH_A = 1.5
"""Standard deviation of the Gaussians; 1.0 to 1.5 were alike in cross-validation."""


def multipoles(positions_A: torch.Tensor, charges: torch.Tensor, graph: torch.Tensor, cells_A: np.ndarray) -> dict[str, torch.Tensor]:
    """Gradients of the potential at each atom, without their traces.

    Args:
        positions_A: (atoms, 3) of all cells, one cell after the other; charges: (atoms,) in e; graph: cell of each atom, ascending.
        cells_A: (cells, 3, 3), rows are the vectors.

    Returns:
        rho (atoms,) the potential in e/A (with that of an ion's own Gaussian, a constant), v (atoms, 3) its gradient in e/A^2, q and o with
        two and three axes, its second and third derivatives in e/A^3 and e/A^4; symmetric and traceless.
    """
    counts = torch.bincount(graph, minlength=len(cells_A))
    slot = torch.arange(len(graph), device=graph.device) - (counts.cumsum(0) - counts)[graph]
    place = positions_A.new_zeros(len(cells_A), int(counts.max()), 3)
    place[graph, slot] = positions_A
    charge = place.new_zeros(place.shape[:2])
    charge[graph, slot] = charges
    found, weights = wave_vectors(cells_A, math.sqrt(2) * EXACTNESS / WIDTH_A, WIDTH_A**2 / 2)
    waves = torch.as_tensor(found, dtype=place.dtype, device=place.device)
    weight = torch.as_tensor(weights, dtype=place.dtype, device=place.device)
    phase = place @ waves.transpose(1, 2)
    cos, sin = torch.cos(phase), torch.sin(phase)
    even, odd = ((charge[:, None] @ part) * weight[:, None] for part in (cos, sin))
    # Of the sum over j of q_j exp(i k (r_j - r_i)): real and imaginary part.
    real, imaginary = cos * even + sin * odd, cos * odd - sin * even
    result = {}
    for rank, (name, part) in enumerate({"rho": real, "v": imaginary, "q": -real, "o": -imaginary}.items()):
        tensors = traceless(waves.reshape(-1, 3), rank).reshape(*weight.shape, -1)
        result[name] = (part @ tensors)[graph, slot].reshape(-1, *rank * (3,))
    return result


def traceless(vectors: torch.Tensor, rank: int) -> torch.Tensor:
    """Symmetric traceless part of the rank-fold product of vectors (n, 3) with themselves, for ranks 0 to 3: (n,), (n, 3), (n, 3, 3), ..."""
    if rank == 0:
        return vectors.new_ones(len(vectors))
    if rank == 1:
        return vectors
    unit = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    square = (vectors**2).sum(dim=1)
    dyad = vectors[:, :, None] * vectors[:, None, :]
    if rank == 2:
        return dyad - square[:, None, None] / 3 * unit
    traces = (square[:, None] * vectors)[:, :, None, None] * unit / 5
    return dyad[..., None] * vectors[:, None, None, :] - traces - traces.transpose(1, 2) - traces.transpose(1, 3)
