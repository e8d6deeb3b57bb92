"""Diffusivity of the mobile ions: a value, an interval or a bound, never a number the run does not hold.

Conventions, section Transport. The verdict rests on net jumps (`ionraman.jumps`) and on the growth of the
mean-squared displacement (MSD) over replicas; a point value is given for "diffusing" alone, its interval as
`ionraman.slopes.choose_interval` says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from ionraman.charges import formal_states
from ionraman.displacements import mobile_paths, msd_tensor
from ionraman.jumps import RETURN_PS, NetJumps, find_sites, net_jumps
from ionraman.slopes import choose_interval, kinisi_interval, lag_frames, replica_interval
from ionraman.units import A2_PER_PS_TO_CM2_PER_S, E_COULOMB, KB_J

FITTED_SHARE = 0.3
"""Longest fitted lag as a share of the run; the shortest is a third of it."""

MINIMUM_LOG_SLOPE = 0.7
MAXIMUM_LOG_SLOPE = 1.2
MINIMUM_CORRELATION = 0.2
"""Motion that grows faster, or adds up to less than this share of its jumps, is coherent or bounded."""

MINIMUM_EVENTS = 20
MINIMUM_IONS = 5
MINIMUM_JUMPS_PER_REPLICA = 3
MINIMUM_BLOCKS = 10
LONGEST_INTERVAL_PS = 0.5
KINISI_FRAMES = 2000


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Transport of one candidate at one temperature; NaN where a quantity is not given.

    Diffusivities are tracer diffusivities in cm^2/s. `D_low` and `D_high` are an interval at `confidence` for
    "diffusing" and "few jumps", 0 and an upper bound for "not diffusing" and, where one can be stated, for
    "undetermined".
    """

    verdict: str  # "diffusing", "few jumps", "not diffusing", "undetermined"
    reason: str  # what decided the verdict, one sentence
    D_cm2_s: float
    D_low: float
    D_high: float
    confidence: float
    interval_from: str  # "kinisi", "replica slopes", "jump statistics[ and replica slopes]", "bound" or ""
    jumps: int | None  # net jumps over all replicas; None where the run is too short to see them
    jumps_per_replica: list[int] | None
    ions_jumped: int | None  # different ions; one that jumps in two replicas counts once
    jumps_together: int | None  # s: most ions jumping within 2 ps, 3 if none was seen
    squared_step_A2: float  # a^2
    ion_time_ps: float  # X: ions times the time in which a net jump could be confirmed, all replicas
    n_mobile: int
    n_sites: int | None
    replicas: int
    run_ps: float  # per replica
    fit_low_ps: float
    fit_high_ps: float
    log_slope: float  # d ln MSD/d ln t over the fitted lags
    correlation_factor: float  # D over that of uncorrelated net jumps, sum of squared steps/(6X)
    D_replica_cm2_s: list[float] | None  # slope/6 of every replica, also where there is no diffusion
    D_replicas_cm2_s: float  # their mean and t-interval
    D_replicas_low: float
    D_replicas_high: float
    D_kinisi_cm2_s: float
    D_kinisi_low: float
    D_kinisi_high: float
    kinisi_agrees: bool | None  # with mean and scatter of the replica slopes; None where it was not asked
    kinisi_note: str
    D_eigenvalues_cm2_s: list[float] | None  # of the tensor, ascending
    temperature_K: float
    sigma_NE_mS_cm: float  # Nernst-Einstein from the tracer D: no correlation between ions
    sigma_NE_low: float
    sigma_NE_high: float
    D_sigma_cm2_s: float  # from the collective displacement
    D_sigma_relative_error: float
    independent_blocks: int
    haven_ratio: float
    sigma_mS_cm: float
    lag_ps: NDArray[np.float64]  # (lags,), logarithmic, up to half the run
    msd_A2: NDArray[np.float64]  # (lags,), mean over replicas
    msd_se_A2: NDArray[np.float64]  # (lags,), NaN for a single replica
    msd_replicas_A2: NDArray[np.float64]  # (replicas, lags)
    sites_A: NDArray[np.float64]  # (sites, 3)

    def to_dict(self) -> dict:
        """JSON-able scalars and short lists, NaN as None; arrays are left out (see `msd_table`)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: _plain(value) for name, value in values.items() if not isinstance(value, np.ndarray)}

    def msd_table(self) -> pd.DataFrame:
        """Columns lag_ps, msd_A2, msd_se_A2 and msd_<r>_A2 of every replica, counted from 0."""
        columns = {"lag_ps": self.lag_ps, "msd_A2": self.msd_A2, "msd_se_A2": self.msd_se_A2}
        return pd.DataFrame(columns | {f"msd_{r}_A2": msd for r, msd in enumerate(self.msd_replicas_A2)})


def diffusion(
    positions: NDArray,
    cell: ArrayLike,
    species: Sequence[str],
    mobile: str,
    interval_ps: float,
    *,
    temperature_K: float | None = None,
    sites: ArrayLike | None = None,
    charge_e: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Diffusion:
    """Diffusivity of the mobile species with its verdict.

    diffusing: n_j >= 20 s net jumps by >= 5 different ions, >= 3 in each of >= 2 replicas, d ln MSD/d ln t
    >= 0.7 over the fitted lags, t-interval of the replica slopes above 0. Two guards keep out slow circling,
    which meets all of these for some periods: d ln MSD/d ln t <= 1.2 and a correlation factor >= 0.2.
    few jumps: 0 < n_j < 20 s; interval from `jump_interval`, its upper end not below that of the slopes, (mean
    slope + t_{.95,R-1} SE)/6. The conventions' formula has the jumps alone. It counts hops between sites;
    ions that drift through a liquid-like crystal may leave few of them, and D then lay above it in up to 70 %
    of synthetic runs.
    not diffusing: n_j = 0; D < max(3.00 s a^2/(6X), (mean slope + t_{.95,R-1} SE)/6).
    undetermined: the run is shorter than 10 ps (twice the 5 ps that confirm a net jump), a single replica where the
    criterion needs several, or n_j >= 20 s jumps that fail another criterion of "diffusing".

    Slopes are fitted by least squares, with an intercept, to lags of 10 to 30 % of the run. D_sigma is the
    same slope of the collective displacement, up to a lag of which all runs hold at least 10.

    Args:
        positions: (replicas, frames, atoms, 3) A, one cell for all frames, float32 or float64.
        cell: (3, 3) A, rows are the lattice vectors.
        species: (atoms,) chemical symbols.
        mobile: symbol of the mobile species; all others are the host.
        interval_ps: time between frames, at most 0.5.
        temperature_K: for conductivities; without it they are NaN.
        sites: (sites, 3) Cartesian, in the frame of the first replica, A; by default found from the data.
        charge_e: charge of a mobile ion; by default its formal charge in the compound (`ionraman.charges`),
            without which conductivities are NaN.
        confidence: of all intervals and bounds.
        seed: of kinisi's sampler.

    Raises:
        ValueError: a shape, a species, the interval or a position cannot be used; the sentence says why.
    """
    positions, cell, is_mobile, masses = _checked(positions, cell, species, mobile, interval_ps)
    paths = mobile_paths(positions, cell, is_mobile, masses)
    replicas, frames, ions, _ = paths.shape
    run_ps = (frames - 1) * interval_ps
    high = FITTED_SHARE * run_ps
    low = high / 3
    longest = max(1, (frames - 1) // 2)
    tensors = np.stack([msd_tensor(path, longest) for path in paths])
    msd = tensors[..., :3].sum(-1)
    lags = np.unique(np.geomspace(1, longest, 100).round().astype(int))
    record: dict = {
        "confidence": confidence, "n_mobile": ions, "replicas": replicas, "run_ps": run_ps, "fit_low_ps": low,
        "fit_high_ps": high, "temperature_K": math.nan if temperature_K is None else temperature_K,
        "lag_ps": lags * interval_ps, "msd_A2": msd[:, lags].mean(0), "msd_replicas_A2": msd[:, lags],
        "msd_se_A2": _standard_error(msd[:, lags]),
    }
    if run_ps < 2 * RETURN_PS:
        return _result(record, "undetermined", f"The run of {run_ps:.3g} ps is too short: a net jump is confirmed "
                       f"{RETURN_PS:g} ps after it, and as long again must be left to see one.")

    fitted = lag_frames(np.linspace(low, high, 60), interval_ps)
    slopes = _slope(fitted * interval_ps, msd[:, fitted].T) / 6
    mean, slopes_low, slopes_high, upper = replica_interval(slopes, confidence)
    if sites is None:
        sites = find_sites(paths, cell, interval_ps)
    jumps = net_jumps(paths, cell, sites, interval_ps)
    ion_time = ions * replicas * jumps.observed_ps
    record |= {
        "jumps": jumps.count, "jumps_per_replica": np.bincount(jumps.replica, minlength=replicas).tolist(),
        "ions_jumped": jumps.ions, "jumps_together": jumps.together, "ion_time_ps": ion_time,
        "squared_step_A2": jumps.squared_step_A2, "n_sites": len(jumps.sites_A), "sites_A": jumps.sites_A,
        "log_slope": _log_slope(lag_frames(np.geomspace(low, high, 30), interval_ps), msd.mean(0)),
        "D_replica_cm2_s": slopes.tolist(), "D_replicas_cm2_s": mean, "D_replicas_low": slopes_low,
        "D_replicas_high": slopes_high,
    }
    if jumps.count:
        uncorrelated = (jumps.displacement_A**2).sum() / (6 * ion_time) * A2_PER_PS_TO_CM2_PER_S
        record["correlation_factor"] = mean / uncorrelated
    jump_low, jump_high = jump_interval(jumps, ion_time, confidence)
    bound = {"D_low": 0.0, "D_high": float(np.fmax(jump_high, upper)), "interval_from": "bound"}

    if jumps.count == 0:
        if replicas < 2:
            return _result(record, "undetermined", "No net jump was seen; a bound needs two replicas.")
        return _result(record | bound, "not diffusing", f"No net jump in {ion_time / 1000:.3g} ion ns.")
    needed = MINIMUM_EVENTS * jumps.together
    if jumps.count < needed:
        source = "jump statistics and replica slopes" if upper > jump_high else "jump statistics"
        record |= {"D_low": jump_low, "D_high": float(np.fmax(jump_high, upper)), "interval_from": source}
        return _result(record, "few jumps", f"{jumps.count} net jumps were seen; a value needs {needed}.")
    objection = _objection(record)
    if objection:
        return _result(record | bound, "undetermined", f"{jumps.count} net jumps were seen, but {objection}.")

    stride = math.ceil(frames / KINISI_FRAMES)
    record |= kinisi_interval(paths[:, ::stride], stride * interval_ps, low, high, confidence, seed)
    kinisi = tuple(record[f"D_kinisi_{end}"] for end in ("cm2_s", "low", "high"))
    record |= choose_interval(slopes, (mean, slopes_low, slopes_high), kinisi, confidence)
    xx, yy, zz, yz, xz, xy = _slope(fitted * interval_ps, tensors.mean(0)[fitted]) / 2
    record["D_eigenvalues_cm2_s"] = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).tolist()
    record |= _collective(paths, interval_ps, low, high, record["D_cm2_s"])
    if temperature_K is not None:
        if charge_e is None:
            charge_e = float((formal_states(Counter(species)) or {}).get(mobile, math.nan))
        record |= _conductivities(record, ions / abs(np.linalg.det(cell)), temperature_K, charge_e)
    return _result(record, "diffusing", f"{jumps.count} net jumps by {jumps.ions} ions, the mean-squared "
                   f"displacement grows as t^{record['log_slope']:.2f}, the replica slopes exclude zero.")


def jump_interval(jumps: NetJumps, ion_time_ps: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of D in cm^2/s from the net jumps alone: (s a^2/6X)[chi2_{.025,2n}/2, chi2_{.975,2n+2}/2].

    n = n_j/s, because s ions may jump together; X = ion_time_ps. Without jumps 0 and 3.00 s a^2/(6X), where
    3.00 = -ln(1 - confidence) is the one-sided bound.
    """
    unit = jumps.together * jumps.squared_step_A2 / (6 * ion_time_ps) * A2_PER_PS_TO_CM2_PER_S
    if jumps.count == 0:
        return 0.0, -math.log(1 - confidence) * unit
    events = jumps.count / jumps.together
    tail = (1 - confidence) / 2
    return unit * chi2.ppf(tail, 2 * events) / 2, unit * chi2.ppf(1 - tail, 2 * events + 2) / 2


def _objection(record: dict) -> str:
    """Why many net jumps are no diffusion, or "": the first criterion of "diffusing" that is not met."""
    rich = sum(n >= MINIMUM_JUMPS_PER_REPLICA for n in record["jumps_per_replica"])
    if record["ions_jumped"] < MINIMUM_IONS:
        return f"by {record['ions_jumped']} different ions only ({MINIMUM_IONS} are needed)"
    if rich < 2:
        return f"only {rich} replica has {MINIMUM_JUMPS_PER_REPLICA} or more (two are needed)"
    if not record["log_slope"] >= MINIMUM_LOG_SLOPE:
        return (f"the mean-squared displacement grows as t^{record['log_slope']:.2f} up to "
                f"{record['fit_high_ps']:.3g} ps (t^{MINIMUM_LOG_SLOPE} is needed; a longer run decides)")
    if not record["D_replicas_low"] > 0:
        return "the interval of the replica slopes reaches zero (more or longer replicas decide)"
    if record["log_slope"] > MAXIMUM_LOG_SLOPE:
        return (f"the mean-squared displacement grows as t^{record['log_slope']:.2f}, faster than by "
                "diffusion (coherent motion such as a slow rotation)")
    if record["correlation_factor"] < MINIMUM_CORRELATION:
        return (f"the slope holds only {record['correlation_factor']:.2g} of what uncorrelated jumps would "
                "give (ions circle or go back and forth)")
    return ""


def _collective(paths: NDArray, interval_ps: float, low_ps: float, high_ps: float, tracer: float) -> dict:
    """D_sigma, Haven ratio from lags up to one that fits MINIMUM_BLOCKS times into all runs; else {}.

    The relative error is 1.3 sqrt(2/(3 blocks)): that of the mean of as many squared normal displacements,
    times what the free intercept of the slope costs (1.25 to 1.35 for independent walkers).
    """
    replicas, frames, ions, _ = paths.shape
    run_ps = (frames - 1) * interval_ps
    block_ps = min(high_ps, replicas * run_ps / MINIMUM_BLOCKS)
    if block_ps < low_ps:
        return {}
    blocks = int(replicas * run_ps / block_ps + 1e-9)
    fitted = lag_frames(np.linspace(block_ps / 3, block_ps, 60), interval_ps)
    total = [msd_tensor(path.sum(1, dtype=float)[:, None], fitted[-1]) for path in paths]
    collective = np.mean(total, 0)[fitted, :3].sum(-1) / ions
    value = float(_slope(fitted * interval_ps, collective)) / 6
    return {"independent_blocks": blocks, "D_sigma_cm2_s": value,
            "D_sigma_relative_error": 1.3 * math.sqrt(2 / (3 * blocks)),
            "haven_ratio": tracer / value if value > 0 else math.nan}


def _conductivities(record: dict, ions_per_A3: float, temperature_K: float, charge_e: float) -> dict:
    """n q^2 D/(kB T) in mS/cm for every D of the record."""
    factor = 1e27 * ions_per_A3 * (charge_e * E_COULOMB) ** 2 / (KB_J * temperature_K)
    pairs = {"sigma_NE_mS_cm": "D_cm2_s", "sigma_NE_low": "D_low", "sigma_NE_high": "D_high",
             "sigma_mS_cm": "D_sigma_cm2_s"}
    return {name: factor * record.get(source, math.nan) for name, source in pairs.items()}


def _result(record: dict, verdict: str, reason: str) -> Diffusion:
    """Fill what was not computed: NaN for floats, None or empty for the other types."""
    empty = {f.name: None if "None" in f.type else math.nan for f in fields(Diffusion)} | {
        "interval_from": "", "kinisi_note": "", "independent_blocks": 0, "sites_A": np.zeros((0, 3)),
    }
    return Diffusion(**(empty | record | {"verdict": verdict, "reason": reason}))


def _slope(times_ps: NDArray, squared_A2: NDArray) -> NDArray[np.float64]:
    """Least-squares slope of (lags, ...) against (lags,), in cm^2/s."""
    return np.polyfit(times_ps, squared_A2, 1)[0] * A2_PER_PS_TO_CM2_PER_S


def _standard_error(values: NDArray) -> NDArray[np.float64]:
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    return values.std(0, ddof=1) / math.sqrt(len(values))


def _log_slope(lags: NDArray, msd: NDArray) -> float:
    """d ln MSD/d ln t; NaN where nothing moves."""
    return float(np.polyfit(np.log(lags), np.log(msd[lags]), 1)[0]) if (msd[lags] > 0).all() else math.nan


def _checked(
    positions: NDArray, cell: ArrayLike, species: Sequence[str], mobile: str, interval_ps: float
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Arrays of the input, which atoms are mobile, and masses in u."""
    positions, cell = np.asarray(positions), np.asarray(cell, float)
    if positions.ndim != 4 or positions.shape[-1] != 3:
        raise ValueError(f"Positions must be (replicas, frames, atoms, 3), not {positions.shape}.")
    if positions.shape[1] < 2:
        raise ValueError("A run of fewer than 2 frames has no displacements.")
    if cell.shape != (3, 3) or not abs(np.linalg.det(cell)) > 0:
        raise ValueError("The cell must be (3, 3) with a volume above zero.")
    if len(species) != positions.shape[2]:
        raise ValueError(f"There are {positions.shape[2]} atoms, but {len(species)} species.")
    if unknown := sorted(set(species) - set(atomic_numbers)):
        raise ValueError(f"Not a chemical symbol: {', '.join(unknown)}.")
    is_mobile = np.array([symbol == mobile for symbol in species])
    if not is_mobile.any():
        raise ValueError(f"The mobile species {mobile} is not among {', '.join(sorted(set(species)))}.")
    if not 0 < interval_ps <= LONGEST_INTERVAL_PS:
        raise ValueError(f"Frames are {interval_ps:g} ps apart; to see a net jump they must be at most "
                         f"{LONGEST_INTERVAL_PS:g} ps apart.")
    return positions, cell, is_mobile, atomic_masses[[atomic_numbers[symbol] for symbol in species]]


def _plain(value):
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
