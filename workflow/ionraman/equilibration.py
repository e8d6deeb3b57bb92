"""The cell of an NPT run: what the crystal's symmetry allows of it, and whether it has settled."""

from __future__ import annotations

import numpy as np
from scipy.linalg import sqrtm
from scipy.signal import detrend


def symmetric_cell(cell: np.ndarray, reference: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """The cell nearest to `cell` whose strain has the symmetry of the crystal, at the same volume.

    Args:
        cell: (3, 3) row vectors, A, e.g. the mean of an NPT run.
        reference: (3, 3) row vectors of the undeformed supercell, A.
        rotations: (n, 3, 3) Cartesian point group of the crystal without its carriers, in the frame of `reference`.

    With reference = L and cell = L F, the metric F F^T is averaged over the group. The mean cell of a run of picoseconds carries random
    strains of percents, which a crystal's symmetry forbids in the long run; carriers may lower the symmetry, but which of the equivalent
    directions they favour in one small cell is chance.
    """
    deformation = np.linalg.solve(reference, cell)
    metric = deformation @ deformation.T
    metric = np.mean([rotation @ metric @ rotation.T for rotation in rotations], axis=0)
    symmetric = reference @ np.real(sqrtm(metric))
    return symmetric * abs(np.linalg.det(cell) / np.linalg.det(symmetric)) ** (1 / 3)


def cell_settled(cells: np.ndarray) -> bool:
    """Whether means over the second and the last third of a run agree within 2 standard errors, for volume and shape.

    Args:
        cells: (frames, 3, 3) of one system in A, with forbidden strains taken out (`symmetric_cell`).

    The test leans to no, which costs time only: thirds of 7 correlation times of a stationary cubic cell pass in 6 of 10 cases.
    """
    third = len(cells) // 3
    if third < 10:
        return True
    lengths = np.cbrt(np.abs(np.linalg.det(cells)))
    return all(
        _agree(series, third) for series in (lengths, *(np.linalg.norm(cells, axis=2) / lengths[:, None]).T)
    )


def _agree(series: np.ndarray, third: int) -> bool:
    parts = [series[third : 2 * third], series[-third:]]
    difference = abs(parts[0].mean() - parts[1].mean())
    if difference < 1e-6 * abs(series.mean()):
        return True  # fixed by symmetry
    # A drift is what is looked for: it must not pass as fluctuation, so the errors are those about the trends.
    return bool(difference <= 2 * np.sqrt(sum(squared_error(detrend(part), third) for part in parts)))


def squared_error(series: np.ndarray, count: int) -> float:
    """Squared standard error of the mean of `count` samples of a correlated series: variance times 2 tau/count.

    tau is the integrated correlation time, in samples, summed up to the first lag beyond 5 tau (Sokal's window).
    """
    centred = series - series.mean()
    spectrum = np.abs(np.fft.rfft(centred, 2 * len(series))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(series)] / np.arange(len(series), 0, -1)
    if correlation[0] <= 0:
        return 0.0
    tau = 0.5 + np.cumsum(correlation[1:] / correlation[0])
    window = np.flatnonzero(np.arange(1, len(series)) >= 5 * tau)
    chosen = tau[window[0]] if len(window) else tau[-1]
    return float(correlation[0] * max(2 * chosen, 1.0) / count)
