"""Welch estimates of spectral densities: segments, their periodograms, and the units of a standard error.

Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967). Nothing here knows what the signals are.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.signal import get_window

from ionraman.units import C_CM_PER_PS

_MIN_SEGMENTS, _MIN_FRAMES = 4, 16
_MIN_REPLICAS, _MIN_BLOCKS, _MAX_BLOCKS = 3, 4, 8


def segment_densities(
    signals: NDArray, interval_ps: float, length: int, *, window: str = "hann", overlap: float = 0.5
) -> NDArray:
    """Modified periodograms of signals (k, frames), shape (segments, k, bins): two-sided, times c.

    The mean of the whole signal is removed once, never per segment: that would take out relaxations slower
    than a segment. Unit of the result: that of the signal squared, per cm^-1. window: a name that
    scipy.signal knows.
    """
    signals = signals - signals.mean(axis=-1, keepdims=True)
    step = length - int(overlap * length)
    pieces = np.lib.stride_tricks.sliding_window_view(signals, length, axis=-1)[:, ::step]
    taper = get_window(window, length)  # periodic
    transform = np.fft.rfft(pieces * taper, axis=-1)
    scale = C_CM_PER_PS * interval_ps / np.sum(taper**2)
    return scale * (transform.real**2 + transform.imag**2).swapaxes(0, 1)


def segment_count(n_frames: int, length: int) -> int:
    """Segments of this length that overlap by half and fit into n_frames."""
    return (n_frames - length) // (length - length // 2) + 1 if n_frames >= length else 0


def segment_frames(
    n_replicas: int, n_frames: int, interval_ps: float, nu1_cm: float, segment_ps: float | None
) -> tuple[int, float]:
    """Frames of a segment, and the smallest wavenumber, not below nu1_cm, that such segments resolve.

    At least 4/(c nu1) long, or segment_ps, where the replicas hold 4 of them in all; otherwise as long as
    the run allows, resolving 4/(c T_seg) rounded up to 0.1 cm^-1, so that runs of nearly equal length share
    a window. Raises ValueError if not even 4 segments of 16 frames, or of segment_ps, fit.
    """
    per_replica = -(-_MIN_SEGMENTS // n_replicas)
    longest = 2 * n_frames // (per_replica + 1) + 1
    while longest > 0 and segment_count(n_frames, longest) < per_replica:
        longest -= 1

    def frames_for(wavenumber: float) -> int:
        return ceil(4 / (C_CM_PER_PS * wavenumber * interval_ps) - 1e-9)

    wanted = frames_for(nu1_cm)
    asked = wanted if segment_ps is None else ceil(segment_ps / interval_ps - 1e-9)
    needed = max(_MIN_FRAMES, 0 if segment_ps is None else asked)
    if longest < needed:
        raise ValueError(
            f"{n_replicas} replicas of {n_frames} frames every {interval_ps * 1e3:g} fs do not hold "
            f"{_MIN_SEGMENTS} half-overlapping segments of {needed} frames: run longer"
        )
    length = min(max(asked, _MIN_FRAMES), longest)
    if length >= wanted:
        return length, float(nu1_cm)
    resolved = ceil(40 / (C_CM_PER_PS * length * interval_ps) - 1e-9) / 10
    return (frames_for(resolved) if segment_ps is None else length), resolved


def unit_groups(n_replicas: int, n_frames: int, length: int) -> tuple[list[list[NDArray]], str]:
    """For each replica the segments of each of its units, and what a unit is.

    Neighbouring blocks share half a segment of frames, which correlates their spectra by about 1/36 (Welch
    1967) and keeps every segment in use; their number is that of segments that do not overlap. A segment is
    always longer than 3 correlation times of the slowest relaxation it resolves, T_seg/(2 pi).
    """
    segments = np.arange(segment_count(n_frames, length))
    if n_replicas >= _MIN_REPLICAS:
        return [[segments]] * n_replicas, "replica"
    blocks = min(n_frames // length, _MAX_BLOCKS // n_replicas)
    if blocks * n_replicas >= _MIN_BLOCKS:
        return [np.array_split(segments, blocks)] * n_replicas, "block"
    return [[segments]] * n_replicas, "undetermined"


def standard_error(units: NDArray, unit: str) -> NDArray:
    """Standard error over units of the mean over models, (n,)."""
    if unit == "undetermined":
        return np.full(units.shape[-1], np.nan)
    return units.mean(axis=0).std(axis=0, ddof=1) / np.sqrt(units.shape[1])
