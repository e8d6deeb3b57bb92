"""Has the cell of an NPT run settled?"""

from __future__ import annotations

import numpy as np
from scipy.signal import detrend


def cell_settled(cells: np.ndarray) -> bool:
    """Whether the mean volumes of the second and the last third of a run agree within 2 standard errors.

    Args:
        cells: (frames, systems, 3, 3) in A; all systems must have settled.

    The test leans to no, which costs time only: thirds of 7 correlation times of a stationary cell pass in 6 of 10 cases.
    """
    volumes = np.abs(np.linalg.det(cells))
    third = len(volumes) // 3
    if third < 10:
        return True
    parts = [volumes[third : 2 * third], volumes[-third:]]
    # A drift is what is looked for: it must not pass as fluctuation, so the errors are those about the trends.
    squared = sum(np.array([squared_error(series, third) for series in detrend(part, axis=0).T]) for part in parts)
    return bool(np.all(np.abs(parts[0].mean(axis=0) - parts[1].mean(axis=0)) <= 2 * np.sqrt(squared)))


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
