"""Intervals of a diffusivity from the slope of the mean-squared displacement: over replicas, and by kinisi.

kinisi: Bayesian regression with the covariance of the MSD (McCluskey et al., doi:10.1021/acs.jctc.4c01249).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm
from scipy.stats import t as student_t

from ionraman.units import A2_PER_PS_TO_CM2_PER_S

KINISI_LAGS = 50


def lag_frames(times_ps: NDArray, interval_ps: float) -> NDArray[np.int64]:
    """Different lags in frames, at least 1."""
    return np.unique(np.maximum(1, np.round(times_ps / interval_ps)).astype(int))


def replica_interval(slopes: NDArray, confidence: float) -> tuple[float, float, float, float]:
    """Mean, two-sided t-interval and one-sided upper end over replicas; NaN ends for a single one."""
    mean, count = float(slopes.mean()), len(slopes)
    if count < 2:
        return mean, math.nan, math.nan, math.nan
    error = float(slopes.std(ddof=1)) / math.sqrt(count)
    two, one = student_t.ppf([(1 + confidence) / 2, confidence], count - 1)
    return mean, mean - two * error, mean + two * error, mean + one * error


def kinisi_interval(
    paths: NDArray, interval_ps: float, low_ps: float, high_ps: float, confidence: float, seed: int
) -> dict:
    """D and its credible interval by kinisi from the ions of all replicas, as fields of `Diffusion`.

    kinisi's regression is given the MSD, its variance and the number of independent displacements directly:
    its ASE parser counts frame 0 twice, and its analyzer takes the longest lag for the length of the run,
    which would widen the interval where lags end at 30 % of it.

    Args:
        paths: (replicas, frames, ions, 3) A; a few thousand frames at most.
        low_ps, high_ps: shortest and longest lag.

    Returns:
        D_kinisi_cm2_s (median), D_kinisi_low, D_kinisi_high; NaN with a kinisi_note if kinisi failed.
    """
    import scipp
    from kinisi.diffusion import Diffusion as Regression

    replicas, frames, ions, _ = paths.shape
    lags = lag_frames(np.geomspace(low_ps, high_ps, KINISI_LAGS), interval_ps)
    mean, variance, samples = (np.empty(len(lags)) for _ in range(3))
    for i, lag in enumerate(lags):
        squared = ((paths[:, lag:] - paths[:, :-lag]) ** 2).sum(-1, dtype=float)
        samples[i] = replicas * ions * (frames - 1) / lag
        mean[i], variance[i] = squared.mean(), squared.var(ddof=1) / samples[i]
    dim = "time interval"
    data = scipp.DataArray(
        scipp.array(dims=[dim], values=mean, variances=variance, unit="angstrom^2"),
        coords={dim: scipp.array(dims=[dim], values=lags * interval_ps, unit="ps"),
                "n_samples": scipp.array(dims=[dim], values=samples)},
    )
    regression = Regression(scipp.DataGroup({"da": data, "dimensionality": 3 * scipp.units.dimensionless}))
    names = ("D_kinisi_cm2_s", "D_kinisi_low", "D_kinisi_high")
    # kinisi seeds and draws from numpy's global generator.
    state = np.random.get_state()
    try:
        regression.bayesian_regression(
            start_dt=scipp.scalar(lags[0] * interval_ps, unit="ps"), n_samples=500, progress=False,
            random_state=np.random.RandomState(seed),
        )
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        return dict.fromkeys(names, math.nan) | {"kinisi_note": f"kinisi failed: {error}"}
    finally:
        np.random.set_state(state)
    tail = 50 * (1 - confidence)
    ends = np.percentile(regression.gradient.values / 6 * A2_PER_PS_TO_CM2_PER_S, [50, tail, 100 - tail])
    return dict(zip(names, ends.tolist(), strict=True))


def choose_interval(
    slopes: NDArray, replica: tuple[float, ...], kinisi: tuple[float, ...], confidence: float
) -> dict:
    """Which interval of D is reported: kinisi's only where the replicas bear it out.

    kinisi takes all ions as independent, so replicas that differ, or ions that move together, leave its
    interval too narrow. It is used where its median lies in the replica t-interval and the squared standard
    error over replicas is below the median it would have if kinisi were right; otherwise, and for 2 replicas,
    the t-interval. For normal estimates from 3 to 8 replicas that truly differ by 0 to 4 times their own
    error this covers 94 to 97.5 %; a choice by a test at the 5 % level would cover 83 to 95 %.
    `kinisi_agrees` is the milder statement that neither is refuted at the 5 % level.

    Args:
        slopes: (replicas,) diffusivities from the replicas.
        replica, kinisi: value, lower and upper end.
    """
    mean, low, high = replica
    value, kinisi_low, kinisi_high = kinisi
    chosen = {"D_cm2_s": mean, "D_low": low, "D_high": high, "interval_from": "replica slopes"}
    if not np.all(np.isfinite(kinisi)) or not kinisi_low < kinisi_high:
        return chosen | {"kinisi_agrees": False}
    error = (kinisi_high - kinisi_low) / (2 * norm.ppf((1 + confidence) / 2))
    freedom = len(slopes) - 1
    scatter = slopes.var(ddof=1) / len(slopes) / error**2 * freedom
    inside = low <= value <= high
    agrees = bool(inside and scatter < chi2.ppf(0.95, freedom))
    if not agrees:
        return chosen | {"kinisi_agrees": False, "kinisi_note": "Replicas " + (
            "scatter more than kinisi's interval allows." if inside else "exclude kinisi's value.")}
    if freedom < 2 or scatter > chi2.ppf(0.5, freedom):
        return chosen | {"kinisi_agrees": True, "kinisi_note": "The interval over replicas is reported."}
    return {"D_cm2_s": value, "D_low": kinisi_low, "D_high": kinisi_high, "interval_from": "kinisi",
            "kinisi_agrees": True}
