"""From stored positions to displacements: unwrapping, drift of the host, mean-squared displacement."""

from __future__ import annotations

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import ArrayLike, NDArray
from scipy import fft

CHUNK_VALUES = 4_000_000
"""Coordinates held in double precision at a time: about 32 MB, whatever the length of the run."""

PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Order of the components of a symmetric tensor."""


def mobile_paths(
    positions: NDArray, cell: ArrayLike, mobile: NDArray[np.bool_], masses: ArrayLike
) -> NDArray[np.float32]:
    """Paths of the mobile atoms, unwrapped and free of the drift of the host.

    Unwrapped in fractional coordinates at fixed cell: a step of more than half a cell crosses the boundary.
    The drift is that of the centre of mass of all other atoms, or of all atoms where there are none. Replicas
    are brought into one frame of reference by their mean host positions (median of the minimum-image
    differences, so that a few host atoms that have changed places do not matter).

    Args:
        positions: (replicas, frames, atoms, 3) A.
        cell: (3, 3) A, rows are the lattice vectors.
        mobile: (atoms,) True for the mobile species.
        masses: (atoms,) any unit.

    Returns:
        (replicas, frames, mobile atoms, 3) float32, A.

    Raises:
        ValueError: a position is not finite; replica, frame and atom are named.
    """
    replicas, frames, atoms, _ = positions.shape
    reduced = minkowski_reduce(np.asarray(cell, float))[0]
    inverse = np.linalg.inv(reduced)
    reference = ~mobile if not mobile.all() else mobile
    weights = np.where(reference, masses, 0.0)
    weights = weights / weights.sum()
    column = np.cumsum(mobile) - 1
    paths = np.empty((replicas, frames, int(mobile.sum()), 3), np.float32)
    chunk = max(1, CHUNK_VALUES // (3 * frames))
    first_mean: NDArray | None = None
    for replica in range(replicas):
        drift = np.zeros((frames, 3))
        mean = np.zeros((atoms, 3))
        for start in range(0, atoms, chunk):
            part = slice(start, min(atoms, start + chunk))
            unwrapped = _unwrapped(positions[replica, :, part], reduced, inverse)
            if not np.isfinite(unwrapped).all():
                frame, atom, _ = np.argwhere(~np.isfinite(unwrapped))[0]
                raise ValueError(f"Positions of replica {replica}, frame {frame}, atom {start + atom} are "
                                 "not finite; cut the run before that frame or run it again.")
            drift += np.einsum("fac,a->fc", unwrapped, weights[part])
            mean[part] = unwrapped.mean(0)
            paths[replica][:, column[part][mobile[part]]] = unwrapped[:, mobile[part]]
        drift -= drift[0]
        mean -= drift.mean(0)
        if first_mean is None:
            first_mean = mean
        elif not mobile.all():
            drift += _offset((mean - first_mean)[reference] @ inverse) @ reduced
        for frame in range(0, frames, 1024):
            paths[replica, frame : frame + 1024] -= drift[frame : frame + 1024, None].astype(np.float32)
    return paths


def _unwrapped(positions: NDArray, cell: NDArray, inverse: NDArray) -> NDArray[np.float64]:
    """Unwrap (frames, atoms, 3) by whole lattice vectors, so that unwrapped input comes back unchanged."""
    unwrapped = positions.astype(np.float64)
    crossings = np.round(np.diff(unwrapped, axis=0) @ inverse)
    if crossings.any():
        unwrapped[1:] -= np.cumsum(crossings, axis=0) @ cell
    return unwrapped


def _offset(fractional: NDArray) -> NDArray[np.float64]:
    """Common translation (3,) in differences (atoms, 3) that are known up to whole numbers."""
    rough = np.angle(np.exp(2j * np.pi * fractional).mean(0)) / (2 * np.pi)
    rest = fractional - rough
    return rough + np.median(rest - np.round(rest), axis=0)


def msd_tensor(paths: NDArray, longest: int) -> NDArray[np.float64]:
    """<dx_a dx_b> over ions and time origins, from correlations by FFT.

    Kneller et al., Comput. Phys. Commun. 91, 191 (1995): sums of squares less twice the correlation.

    Args:
        paths: (frames, ions, 3) A.
        longest: largest lag, in frames.

    Returns:
        (longest + 1, 6) A^2, components xx, yy, zz, yz, xz, xy; the sum of the first three is the MSD.
    """
    frames, ions, _ = paths.shape
    length = fft.next_fast_len(frames + longest, real=True)
    power = np.zeros((len(PAIRS), length // 2 + 1))
    products = np.zeros((len(PAIRS), frames))
    chunk = max(1, CHUNK_VALUES // (3 * length))
    for start in range(0, ions, chunk):
        x = np.ascontiguousarray(paths[:, start : start + chunk].transpose(2, 1, 0), float)
        # The mean does not change displacements, and without it the differences below lose no digits.
        x -= x.mean(-1, keepdims=True)
        spectrum = fft.rfft(x, length)
        for pair, (a, b) in enumerate(PAIRS):
            products[pair] += (x[a] * x[b]).sum(0)
            power[pair] += (spectrum[a] * spectrum[b].conj()).real.sum(0)
    correlation = fft.irfft(power, length)[:, : longest + 1]
    total = np.concatenate([np.zeros((len(PAIRS), 1)), np.cumsum(products, 1)], 1)
    lags = np.arange(longest + 1)
    squares = total[:, frames - lags] + total[:, -1:] - total[:, lags]
    return ((squares - 2 * correlation) / ((frames - lags) * ions)).T
