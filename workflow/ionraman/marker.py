"""The low-frequency Raman marker: intensity in a window near the laser line, with its interval.

I_low is absolute per volume, R_low a share of the whole spectrum, r_low free of cell size and of any scale
of the polarizability; chi_low is what may be compared across temperatures. Intervals are Student t over
units (replicas, or blocks of whole segments): a bootstrap over segments is too narrow for so few. The
spread over the members of the polarizability ensemble is a second, separate component.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student_t

from ionraman.raman import SpectralDensity, reduced_energy, stokes_factor, window_weights

UPPER_EDGES_CM = (20.0, 50.0, 100.0)
"""Upper edges of the windows that are always reported."""


@dataclass(frozen=True)
class WindowIntensity:
    """Stokes intensity of a powder between two wavenumbers, A^3, with its t-interval; NaN if not resolved."""

    nu1_cm: float
    nu2_cm: float
    I_A3: float
    I_A3_low: float
    I_A3_high: float


@dataclass(frozen=True, eq=False)
class Marker:
    """Low-frequency marker of one candidate at one temperature; the ends of intervals are *_low, *_high.

    A value is the mean over members of the polarizability ensemble of the member's own value (for I_low and
    chi_low the same as that of the mean spectrum). Intervals are for the mean over members.
    """

    nu1_cm: float  # the requested one, or the smallest the run resolves
    nu2_cm: float
    nu1_requested_cm: float
    temperature_K: float
    laser_nm: float
    confidence: float
    I_low_A3: float
    I_low_low: float
    I_low_high: float
    R_low: float  # I_low over the intensity from nu1 to nu_max
    R_low_low: float
    R_low_high: float
    r_low: float  # N_atoms V I_low/a_mean^2
    r_low_low: float
    r_low_high: float
    chi_low: float  # Int y S_R/nu dnu, A^3 cm
    chi_low_low: float
    chi_low_high: float
    alpha_spread: float  # relative standard deviation of I_low over members; NaN for a single one
    I_low_members: tuple[float, ...]
    I_low_units: NDArray  # (models, units), A^3
    windows: tuple[WindowIntensity, ...]  # nu1 to 20, 50 and 100 cm^-1
    floor: float  # mean S_R from 1.2 nu_max to 0.8 Nyquist, A^3 per cm^-1
    floor_share: float  # part of I_low that a flat S_R of this height would give
    nu_max_cm: float
    resolution_cm: float
    segment_ps: float
    n_segments: int
    unit: str  # of the interval: "replica", "block" or "undetermined"
    undetermined: bool  # no interval: too few replicas or segments, or no intensity at all

    def to_dict(self) -> dict:
        """Plain Python for JSON; NaN becomes None."""
        return _plain(asdict(self))


def low_frequency(
    density: SpectralDensity,
    temperature_K: float,
    nu1_cm: float = 5.0,
    nu2_cm: float = 50.0,
    *,
    n_atoms: int,
    nu_max_cm: float,
    laser_nm: float = 785.0,
    confidence: float = 0.95,
) -> Marker:
    """Intensity between nu1 and nu2 (cm^-1), its share, size-free form and susceptibility, with intervals.

    The window starts at the larger of nu1_cm and density.nu1_cm, under that name. nu_max_cm is 1.15 times
    the highest line. Intervals: Student t over units on ln I_low and ln chi_low, on logit R_low; r_low
    carries the relative interval of I_low, as the error of a_mean is negligible beside it.

    Raises ValueError if the run resolves nothing below nu2, if nu_max does not lie above nu2, if a window
    passes 0.8 Nyquist, and for an n_atoms, temperature, laser wavelength or confidence out of range.
    """
    if not n_atoms >= 1:
        raise ValueError(f"n_atoms is {n_atoms}; it must be at least 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    low = max(nu1_cm, density.nu1_cm)
    if not low < nu2_cm:
        raise ValueError(
            f"the window would start at {low:g} cm^-1, the smallest wavenumber asked for and resolved by "
            f"this run, and that is not below its end, {nu2_cm:g} cm^-1; run longer or widen it"
        )
    if not nu_max_cm > nu2_cm:
        raise ValueError(
            f"nu_max is {nu_max_cm:g} cm^-1; it must lie above the window's end, {nu2_cm:g} cm^-1"
        )

    def stokes(nu: NDArray) -> NDArray:
        return stokes_factor(nu, temperature_K, laser_nm)

    def chi_over_nu(nu: NDArray) -> NDArray:
        return np.full_like(nu, reduced_energy(1.0, temperature_K))

    spectra = density.powder_units()  # (models, units, n)

    def integral(high: float, factor: Callable[[NDArray], NDArray]) -> NDArray:
        return spectra @ window_weights(density, low, high, factor)

    determined = density.unit != "undetermined"
    I_low, chi_low = integral(nu2_cm, stokes), integral(nu2_cm, chi_over_nu)
    intensity = _log_interval(I_low, confidence, determined)
    R_low = _share(I_low, integral(nu_max_cm, stokes), confidence, determined)
    members = I_low.mean(axis=1)
    # Each member's own a_mean: a scale of one member's polarizability must not enter r_low.
    r_low = float(np.mean(n_atoms * density.volume_A3 * members / density.a_mean_members**2))
    chi = _log_interval(chi_low, confidence, determined)
    floor = density.flat_floor(nu_max_cm)
    flat = floor * window_weights(density, low, nu2_cm, stokes).sum()
    present = intensity[0] > 0
    return Marker(
        nu1_cm=low,
        nu2_cm=float(nu2_cm),
        nu1_requested_cm=float(nu1_cm),
        temperature_K=float(temperature_K),
        laser_nm=float(laser_nm),
        confidence=float(confidence),
        I_low_A3=intensity[0],
        I_low_low=intensity[1],
        I_low_high=intensity[2],
        R_low=R_low[0],
        R_low_low=R_low[1],
        R_low_high=R_low[2],
        r_low=r_low,
        r_low_low=r_low * intensity[1] / intensity[0] if present else math.nan,
        r_low_high=r_low * intensity[2] / intensity[0] if present else math.nan,
        chi_low=chi[0],
        chi_low_low=chi[1],
        chi_low_high=chi[2],
        alpha_spread=_relative_spread(members),
        I_low_members=tuple(members.tolist()),
        I_low_units=I_low,
        windows=tuple(
            WindowIntensity(low, high, *_log_interval(integral(high, stokes), confidence, determined))
            if low < high
            else WindowIntensity(low, high, math.nan, math.nan, math.nan)
            for high in UPPER_EDGES_CM
        ),
        floor=floor,
        floor_share=flat / intensity[0] if present else math.nan,
        nu_max_cm=float(nu_max_cm),
        resolution_cm=density.resolution_cm,
        segment_ps=density.segment_ps,
        n_segments=density.n_segments,
        unit=density.unit,
        undetermined=math.isnan(intensity[1]),
    )


def _log_interval(values: NDArray, confidence: float, determined: bool) -> tuple[float, float, float]:
    """Mean of values (models, units), and its t-interval over units on the log of the mean over models."""
    units = values.mean(axis=0)
    centre = float(units.mean())
    if not determined or not (units > 0).all():
        return centre, math.nan, math.nan
    half = _half_width(np.log(units), confidence)
    return centre, centre * math.exp(-half), centre * math.exp(half)


def _share(part: NDArray, whole: NDArray, confidence: float, determined: bool) -> tuple[float, float, float]:
    """Mean over models of part/whole, (models, units) each, and its t-interval over units on the logit."""
    if not (whole > 0).all():
        return math.nan, math.nan, math.nan
    centre = float(np.mean(part.mean(axis=1) / whole.mean(axis=1)))
    units = (part / whole).mean(axis=0)
    if not determined or not ((units > 0) & (units < 1)).all():
        return centre, math.nan, math.nan
    half = _half_width(logit(units), confidence)
    return centre, float(expit(logit(centre) - half)), float(expit(logit(centre) + half))


def _half_width(units: NDArray, confidence: float) -> float:
    quantile = student_t.ppf(0.5 + confidence / 2, len(units) - 1)
    return float(quantile * units.std(ddof=1) / np.sqrt(len(units)))


def _relative_spread(members: NDArray) -> float:
    """Standard deviation over mean; NaN for a single member and for a mean of zero."""
    if len(members) < 2 or not members.mean() > 0:
        return math.nan
    return float(members.std(ddof=1) / members.mean())


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
