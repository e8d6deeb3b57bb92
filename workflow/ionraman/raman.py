"""Raman spectra of a polarizability trajectory: from the classical spectral density to intensity and chi''.

What is kept of a trajectory is the classical, two-sided spectral density of the isotropic and anisotropic
parts of the cell polarizability; every observable is derived from it by factors that are exact for
first-order scattering by harmonic modes. Long, The Raman Effect (Wiley 2002), ch. 5 for the invariants a
and gamma and the powder averages; Berne and Pecora, Dynamic Light Scattering (Wiley 1976), ch. 7.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.signal import find_peaks

from ionraman.units import C_CM_PER_PS, HC_OVER_KB_CM_K
from ionraman.welch import segment_count, segment_densities, segment_frames, standard_error, unit_groups

BINS_OF_THE_MEAN = 2
"""The Hann window spreads what is left of the mean over bins 0 and 1; no spectrum or integral uses them."""

POWDER = {"unpolarised": (45, 7), "VV": (45, 4), "VH": (0, 3)}
"""Weights, in 45ths, of S_a and S_gamma in a powder; "unpolarised" is a polarised laser without analyser."""

_USABLE = 0.8  # of the Nyquist wavenumber
_GAMMA_WEIGHTS = np.array([0.5, 0.5, 0.5, 3.0, 3.0, 3.0])  # of xx-yy, yy-zz, zz-xx, xy, xz, yz in S_gamma


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """Classical spectral densities of a cell's polarizability, per volume: two-sided values, not doubled.

    S_x(nu) = (c/V) Int dt exp(-2 pi i c nu t) <dx(0) dx(t)>, kept for nu >= 0, in A^3 per cm^-1, so
    that the integral of S_x over all nu, negative ones included, is <dx^2>/V. n is the number of bins, from 0
    to the Nyquist wavenumber.
    """

    wavenumber_cm: NDArray  # (n,)
    S_a: NDArray  # (n,) of a = tr(alpha)/3; mean over units and models
    S_gamma: NDArray  # (n,) of the anisotropy, from the spectra of components
    S_a_se: NDArray  # (n,) standard error over units; NaN if they are too few
    S_gamma_se: NDArray  # (n,)
    S_a_units: NDArray  # (models, units, n)
    S_gamma_units: NDArray  # (models, units, n)
    unit: str  # "replica", "block" (of whole segments), or "undetermined": too few of either for an interval
    n_segments: int  # over all replicas
    segment_ps: float
    resolution_cm: float  # 1.5/(c T_seg), the noise bandwidth of the Hann window
    nu1_cm: float  # lower edge of the window: as requested, or the smallest that the run resolves
    nyquist_cm: float
    a_mean_members: NDArray  # (models,) tr<alpha>/3, A^3
    volume_A3: float

    @property
    def a_mean(self) -> float:
        """tr<alpha>/3 averaged over the models, A^3."""
        return float(self.a_mean_members.mean())

    def powder_units(self, geometry: str = "unpolarised") -> NDArray:
        """S_R of a powder for each model and unit, (models, units, n), A^3 per cm^-1.

        Raises ValueError for a geometry other than "unpolarised", "VV" and "VH".
        """
        if geometry not in POWDER:
            raise ValueError(f"geometry is {geometry!r}; allowed are {', '.join(POWDER)}")
        weight_a, weight_gamma = POWDER[geometry]
        return (weight_a * self.S_a_units + weight_gamma * self.S_gamma_units) / 45

    def flat_floor(self, nu_max_cm: float) -> float:
        """Mean of the unpolarised S_R from 1.2 nu_max to 0.8 Nyquist, A^3 per cm^-1; NaN without a bin."""
        band = (self.wavenumber_cm >= 1.2 * nu_max_cm) & (self.wavenumber_cm <= _USABLE * self.nyquist_cm)
        return float(self.powder_units()[..., band].mean()) if band.any() else float("nan")

    def to_table(self, temperature_K: float, *, laser_nm: float = 785.0) -> pd.DataFrame:
        """One row per bin from bin 2 to 0.8 Nyquist: densities, intensities, chi'' and I of each model.

        Columns: wavenumber_cm; S_a, S_gamma, I_* in A^3 per cm^-1 with standard errors *_se; chi2 (y S_R,
        the same unit); I_member_<m>, the unpolarised intensity of model m.
        """
        unpolarised = powder_spectrum(self, temperature_K, laser_nm=laser_nm)
        columns = {
            "wavenumber_cm": unpolarised.wavenumber_cm,
            "S_a": self.S_a[BINS_OF_THE_MEAN:],
            "S_a_se": self.S_a_se[BINS_OF_THE_MEAN:],
            "S_gamma": self.S_gamma[BINS_OF_THE_MEAN:],
            "S_gamma_se": self.S_gamma_se[BINS_OF_THE_MEAN:],
            "I_unpolarised": unpolarised.intensity,
            "I_unpolarised_se": unpolarised.intensity_se,
            "I_VV": powder_spectrum(self, temperature_K, laser_nm=laser_nm, geometry="VV").intensity,
            "I_VH": powder_spectrum(self, temperature_K, laser_nm=laser_nm, geometry="VH").intensity,
            "chi2": susceptibility(self, temperature_K).chi2,
        }
        columns |= {f"I_member_{m}": member for m, member in enumerate(unpolarised.intensity_members)}
        table = pd.DataFrame(columns)
        return table[table["wavenumber_cm"] <= _USABLE * self.nyquist_cm].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class PowderSpectrum:
    """Stokes intensity of a powder, A^3 per cm^-1, from bin 2 to Nyquist (meaningful to 0.8 of it)."""

    wavenumber_cm: NDArray  # (n,)
    intensity: NDArray  # (n,)
    intensity_se: NDArray  # (n,) standard error over units
    intensity_members: NDArray  # (models, n)
    geometry: str
    temperature_K: float
    laser_nm: float


@dataclass(frozen=True, eq=False)
class Susceptibility:
    """Reduced spectrum of a powder, y S_R, proportional to chi'' by one factor for all temperatures."""

    wavenumber_cm: NDArray  # (n,)
    chi2: NDArray  # (n,), A^3 per cm^-1
    chi2_se: NDArray  # (n,)
    chi2_members: NDArray  # (models, n)
    temperature_K: float


def spectral_density(
    alpha: ArrayLike,
    interval_ps: float,
    volume_A3: float,
    *,
    nu1_cm: float = 5.0,
    segment_ps: float | None = None,
) -> SpectralDensity:
    """Spectral densities of a cell polarizability sampled every interval_ps.

    alpha: (replicas, frames, 3, 3), (replicas, frames, models, 3, 3), or (frames, 3, 3) for a single
    replica; A^3, symmetric. Welch estimate: the mean of the whole replica removed once, periodic Hann
    window, segments of 4/(c nu1) (or segment_ps) overlapping by half. nu1_cm is the lowest wavenumber
    wanted. A run too short for at least 4 such segments over all replicas gets the longest segments it has
    room for, and nu1 = 4/(c T_seg) of them, rounded up to 0.1 cm^-1. Units for standard errors: the
    replicas where there are at least 3, otherwise 4 to 8 contiguous blocks of whole segments if the
    replicas together hold at least 4 segments without overlap.

    Raises ValueError for a wrong shape, an unsymmetric or non-finite alpha, a non-positive interval, volume
    or nu1, and a run too short for 4 segments of segment_ps or of 16 frames.
    """
    alpha = _checked_alpha(alpha)
    for name, value in {"interval_ps": interval_ps, "volume_A3": volume_A3, "nu1_cm": nu1_cm}.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")
    n_replicas, n_frames, n_models = alpha.shape[:3]
    length, nu1_cm = segment_frames(n_replicas, n_frames, interval_ps, nu1_cm, segment_ps)

    groups, unit = unit_groups(n_replicas, n_frames, length)
    S_a_units, S_gamma_units, a_mean = [], [], []
    for model in range(n_models):
        rows_a, rows_gamma, means = [], [], []
        for replica, blocks in enumerate(groups):
            a, anisotropy = _invariant_signals(alpha[replica, :, model])
            means.append(a.mean())
            per_segment = segment_densities(np.vstack([a, anisotropy]), interval_ps, length) / volume_A3
            for block in blocks:
                rows_a.append(per_segment[block, 0].mean(axis=0))
                rows_gamma.append(per_segment[block, 1:].mean(axis=0).T @ _GAMMA_WEIGHTS)
        S_a_units.append(rows_a)
        S_gamma_units.append(rows_gamma)
        a_mean.append(np.mean(means))
    S_a_units, S_gamma_units = np.array(S_a_units), np.array(S_gamma_units)

    return SpectralDensity(
        wavenumber_cm=np.fft.rfftfreq(length, interval_ps * C_CM_PER_PS),
        S_a=S_a_units.mean(axis=(0, 1)),
        S_gamma=S_gamma_units.mean(axis=(0, 1)),
        S_a_se=standard_error(S_a_units, unit),
        S_gamma_se=standard_error(S_gamma_units, unit),
        S_a_units=S_a_units,
        S_gamma_units=S_gamma_units,
        unit=unit,
        n_segments=n_replicas * segment_count(n_frames, length),
        segment_ps=length * interval_ps,
        resolution_cm=1.5 / (C_CM_PER_PS * length * interval_ps),
        nu1_cm=nu1_cm,
        nyquist_cm=0.5 / (C_CM_PER_PS * interval_ps),
        a_mean_members=np.array(a_mean),
        volume_A3=float(volume_A3),
    )


def powder_spectrum(
    density: SpectralDensity, temperature_K: float, *, laser_nm: float = 785.0, geometry: str = "unpolarised"
) -> PowderSpectrum:
    """Stokes intensity of a powder, [(nu_L - nu)/nu_L]^4 y/(1 - exp(-y)) S_R(nu), y = hc nu/(kB T).

    Raises ValueError for an unknown geometry and a non-positive temperature or laser wavelength.
    """
    nu, members, se = _members_and_error(density, geometry)
    factor = stokes_factor(nu, temperature_K, laser_nm)
    members = factor * members
    return PowderSpectrum(nu, members.mean(axis=0), factor * se, members, geometry, temperature_K, laser_nm)


def susceptibility(density: SpectralDensity, temperature_K: float) -> Susceptibility:
    """Reduced unpolarised spectrum of a powder, y S_R(nu): chi'' up to a constant that no temperature enters.

    Raises ValueError for a non-positive temperature.
    """
    nu, members, se = _members_and_error(density, "unpolarised")
    y = reduced_energy(nu, temperature_K)
    return Susceptibility(nu, y * members.mean(axis=0), y * se, y * members, temperature_K)


def reduced_energy(wavenumber_cm: ArrayLike, temperature_K: float) -> NDArray:
    """y = hc nu/(kB T). Raises ValueError for a non-positive temperature."""
    if not temperature_K > 0:
        raise ValueError(f"temperature_K is {temperature_K}; it must be positive")
    return HC_OVER_KB_CM_K * np.asarray(wavenumber_cm, dtype=float) / temperature_K


def stokes_factor(wavenumber_cm: ArrayLike, temperature_K: float, laser_nm: float = 785.0) -> NDArray:
    """I/S_R = [(nu_L - nu)/nu_L]^4 y/(1 - exp(-y)); a negative nu gives the anti-Stokes side.

    For a harmonic mode the second factor turns the classical variance into (n + 1) of the oscillator. Zero
    above the laser's wavenumber 1e7/laser_nm. Raises ValueError for a non-positive temperature or laser
    wavelength.
    """
    if not laser_nm > 0:
        raise ValueError(f"laser_nm is {laser_nm}; it must be positive")
    nu = np.asarray(wavenumber_cm, dtype=float)
    y = reduced_energy(nu, temperature_K)
    quantum = np.ones_like(y)
    # exp(-y) overflows only for anti-Stokes shifts so large that the intensity is zero in double precision.
    np.divide(y, -np.expm1(-np.maximum(y, -700.0)), out=quantum, where=y != 0)
    return np.maximum(1 - nu * laser_nm * 1e-7, 0.0) ** 4 * quantum


def window_weights(
    density: SpectralDensity, low_cm: float, high_cm: float, factor: Callable[[NDArray], NDArray]
) -> NDArray:
    """Weights (n,) that make S @ weights the integral of factor(nu) S(nu) from low_cm to high_cm.

    S is taken linear between bins and the edges are exact; factor is integrated by four Gauss points a bin.
    Raises ValueError for an empty window and for one that needs bins 0 and 1 or passes 0.8 Nyquist.
    """
    nu = density.wavenumber_cm
    first, last = nu[BINS_OF_THE_MEAN], _USABLE * density.nyquist_cm
    if not first <= low_cm < high_cm <= last:
        raise ValueError(
            f"the window {low_cm:g} to {high_cm:g} cm^-1 cannot be integrated: the run resolves {first:.3g} "
            f"to {last:.4g} cm^-1; a longer run lowers the first, a shorter sampling interval raises the last"
        )
    edges = np.concatenate([[low_cm], nu[(nu > low_cm) & (nu < high_cm)], [high_cm]])
    left = np.searchsorted(nu, 0.5 * (edges[1:] + edges[:-1])) - 1
    weights = np.zeros_like(nu)
    for point, share in zip(*np.polynomial.legendre.leggauss(4), strict=True):
        x = 0.5 * (edges[1:] + edges[:-1]) + 0.5 * point * np.diff(edges)
        value = 0.5 * share * np.diff(edges) * factor(x)
        rise = (x - nu[left]) / (nu[left + 1] - nu[left])
        np.add.at(weights, left, value * (1 - rise))
        np.add.at(weights, left + 1, value * rise)
    return weights


def highest_line_cm(trajectory: ArrayLike, interval_ps: float, *, kind: str = "velocities") -> float:
    """Wavenumber (cm^-1) of the highest line in the velocity spectrum of a short run sampled every step.

    trajectory: (frames, atoms, 3) or (replicas, frames, atoms, 3), any unit; kind "velocities", or
    "positions" (unwrapped), which are differentiated. Velocities are not weighted by mass, so that a few
    light atoms are not lost among many heavy ones. A line is a maximum of at least 1 % of the largest one
    that stands out from its surroundings by a fifth of its height and three times the noise. Segments are
    2 ps, or the run if that is shorter; the answer is good to half a bin, 8 cm^-1 for 2 ps. Where a short run
    (below 8/(c nu_top), 0.7 ps for 400 cm^-1) merges lines, the upper edge of the spectrum is returned.

    Raises ValueError for a wrong shape or kind, values that are not finite or do not move, and a run below
    0.1 ps.
    """
    motion = np.asarray(trajectory, dtype=float)
    if motion.ndim not in (3, 4) or motion.shape[-1] != 3:
        raise ValueError(f"the trajectory has shape {motion.shape}; expected ([replicas,] frames, atoms, 3)")
    if kind not in ("velocities", "positions"):
        raise ValueError(f"kind is {kind!r}; allowed are velocities and positions")
    if not np.isfinite(motion).all():
        raise ValueError(f"the {kind} hold values that are not finite")
    if kind == "positions":
        motion = np.diff(motion, axis=-3)
    n_frames = motion.shape[-3]
    length = min(n_frames, round(2.0 / interval_ps))
    if length * interval_ps < 0.1:
        raise ValueError(
            f"{n_frames} frames every {interval_ps * 1e3:g} fs are too short to find the highest line; "
            "sample 2 ps, and never less than 0.1 ps"
        )
    signals = np.moveaxis(motion, -3, -1).reshape(-1, n_frames)
    spectrum = np.zeros(length // 2 + 1)
    for signal in signals:
        spectrum += segment_densities(signal[None], interval_ps, length).mean(axis=(0, 1))
    noise = 1 / np.sqrt(len(signals) * segment_count(n_frames, length))
    if not spectrum.max() > 0:
        raise ValueError("nothing moves in this trajectory: the velocity spectrum is zero")
    peaks, found = find_peaks(spectrum, height=0.01 * spectrum.max(), prominence=0)
    lines = peaks[found["prominences"] >= min(0.2 + 3 * noise, 0.8) * spectrum[peaks]]
    top = lines[-1] if len(lines) else 1 + np.argmax(spectrum[1:])
    if (
        top < 8
    ):  # lines a few bins apart merge under the window: take the edge of the spectrum, on the safe side
        top = max(top, np.flatnonzero(spectrum >= 0.01 * spectrum.max())[-1] - 1)
    return float(np.fft.rfftfreq(length, interval_ps * C_CM_PER_PS)[top])


def check_sampling(interval_ps: float, nu_top_cm: float) -> None:
    """Raise ValueError unless interval_ps <= min(10 fs, 1/(4 c nu_top)), so that overtones do not fold.

    nu_top_cm: the highest line of the velocity spectrum, as found by highest_line_cm.
    """
    allowed_fs = min(10.0, 1e3 / (4 * C_CM_PER_PS * nu_top_cm))
    if interval_ps * 1e3 > allowed_fs * (1 + 1e-9):
        raise ValueError(
            f"the polarizability is sampled every {interval_ps * 1e3:g} fs, which is too coarse: the highest "
            f"line of this crystal lies at {nu_top_cm:.0f} cm^-1, and overtones would fold into the window. "
            f"Sample it every {floor(allowed_fs * 10) / 10:g} fs or more often."
        )


def _invariant_signals(alpha: NDArray) -> tuple[NDArray, NDArray]:
    """a(t), (frames,), and the six components whose spectra make S_gamma, (6, frames)."""
    xx, yy, zz = (alpha[:, i, i].astype(float) for i in range(3))
    xy, xz, yz = (0.5 * (alpha[:, i, j].astype(float) + alpha[:, j, i]) for i, j in ((0, 1), (0, 2), (1, 2)))
    return (xx + yy + zz) / 3, np.array([xx - yy, yy - zz, zz - xx, xy, xz, yz])


def _checked_alpha(alpha: ArrayLike) -> NDArray:
    alpha = np.asarray(alpha)
    if alpha.ndim not in (3, 4, 5) or alpha.shape[-2:] != (3, 3) or 0 in alpha.shape:
        raise ValueError(
            f"alpha has shape {alpha.shape}; expected (replicas, frames, 3, 3) or "
            "(replicas, frames, models, 3, 3)"
        )
    if alpha.ndim == 3:
        alpha = alpha[None]
    if alpha.ndim == 4:
        alpha = alpha[:, :, None]
    for number, replica in enumerate(alpha):
        bad = ~np.isfinite(replica).all(axis=(1, 2, 3))
        if bad.any():
            raise ValueError(f"alpha of replica {number}, frame {bad.argmax()} is not finite")
        skew = np.abs(replica - replica.swapaxes(-1, -2)).max()
        if skew > 1e-3 * np.abs(replica).max():
            raise ValueError(
                f"alpha of replica {number} is not symmetric: alpha_ij - alpha_ji reaches {skew:.3g} A^3"
            )
    return alpha


def _members_and_error(density: SpectralDensity, geometry: str) -> tuple[NDArray, NDArray, NDArray]:
    """Wavenumbers without the bins of the mean, S_R of each model (models, n) and the standard error (n,)."""
    units = density.powder_units(geometry)[..., BINS_OF_THE_MEAN:]
    return density.wavenumber_cm[BINS_OF_THE_MEAN:], units.mean(axis=1), standard_error(units, density.unit)
