"""Spectra and mean squared displacements of the runs, thinned for the page."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

MOST_ROWS, MOST_ROWS_WITH_MEMBERS = 150, 50
_POINTS, _FINE_BELOW_CM = 300, 120.0
_SPECTRUM = ["wavenumber_cm", "I_unpolarised", "I_unpolarised_se"]
_MSD = ["lag_ps", "msd_A2", "msd_se_A2"]


def run_folder(runs_folder: Path, candidate: str, temperature_K: float) -> Path:
    """Where a run keeps its tables."""
    return Path(runs_folder) / candidate / f"{temperature_K:g}K"


def read_spectrum(folder: Path, nu_max_cm: float) -> pd.DataFrame:
    """spectrum.csv up to nu_max_cm: wavenumber_cm, I_unpolarised, I_unpolarised_se and I_member_<m>.

    Raises OSError if the file is missing and ValueError if it is not such a table.
    """
    table = _read(folder / "spectrum.csv", _SPECTRUM)
    columns = [name for name in table if name in _SPECTRUM or name.startswith("I_member_")]
    return table.loc[~(table["wavenumber_cm"] > nu_max_cm), columns]


def read_msd(folder: Path) -> pd.DataFrame:
    """msd.csv with columns lag_ps, msd_A2, msd_se_A2, without the lag of 0; raises as read_spectrum."""
    table = _read(folder / "msd.csv", _MSD)
    return table.loc[table["lag_ps"] > 0, _MSD]


def collect(table: pd.DataFrame, runs_folder: Path) -> tuple[list[dict | None], list[str]]:
    """Curves of the rows of the ranking, in its order, and what could not be read, one sentence each.

    Only the first MOST_ROWS rows with results have curves, and MOST_ROWS_WITH_MEMBERS those of single
    members.
    """
    curves, problems, found = [], [], 0
    for row in table.to_dict("records"):
        curve, wrong = ({}, []) if found >= MOST_ROWS else _row_curves(row, runs_folder, found)
        curves.append(curve or None)
        problems += wrong
        found += bool(curve)
    return curves, problems


def _row_curves(row: dict, runs_folder: Path, found: int) -> tuple[dict, list[str]]:
    folder = run_folder(runs_folder, row["candidate"], row["temperature_K"])
    curve, problems = {}, []
    for what, decides in (("msd", "verdict"), ("spectrum", "I_low_A3")):
        if pd.isna(row[decides]):
            continue
        where = f"{row['candidate']} at {row['temperature_K']:g} K: {what}.csv"
        try:
            if what == "msd":
                curve[what] = _thin_msd(read_msd(folder))
            else:
                table = read_spectrum(folder, row["nu_max_cm"])
                curve[what] = _thin_spectrum(table, with_members=found < MOST_ROWS_WITH_MEMBERS)
        except FileNotFoundError:
            problems.append(f"{where} is missing.")
        except (OSError, ValueError) as error:
            problems.append(f"{where} cannot be read ({error}).")
    return curve, problems


def _read(file: Path, columns: list[str]) -> pd.DataFrame:
    table = pd.read_csv(file)
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{file.name} has no column {', '.join(missing)}")
    if table.empty:
        raise ValueError(f"{file.name} holds no rows")
    return table.astype(float)


def _thin_spectrum(table: pd.DataFrame, with_members: bool) -> dict:
    """Compact form: nu to 0.01 cm^-1; I as 1000 log10 of its value, error and members as 1/1000 of I."""
    nu = table["wavenumber_cm"].to_numpy()
    if len(nu) > _POINTS:
        fine = int(np.searchsorted(nu, _FINE_BELOW_CM))
        fine = min(fine, _POINTS // 2)
        blocks = np.concatenate(
            [np.arange(fine), fine + np.arange(len(nu) - fine) * (_POINTS - fine) // (len(nu) - fine)]
        )
        table = table.groupby(blocks).mean()
    table = table[table["I_unpolarised"] > 0]
    intensity = table["I_unpolarised"].to_numpy()
    members = [name for name in table if name.startswith("I_member_")] if with_members else []
    return {
        "nu": [round(x, 2) for x in table["wavenumber_cm"].tolist()],
        "logI": _integers(1000 * np.log10(intensity)),
        "se": _integers(1000 * table["I_unpolarised_se"].to_numpy() / intensity),
        "members": [_integers(1000 * table[name].to_numpy() / intensity) for name in members],
    }


def _thin_msd(table: pd.DataFrame) -> dict:
    """At most 60 lags, evenly spaced in their logarithm; four significant digits."""
    wanted = np.geomspace(table["lag_ps"].iloc[0], table["lag_ps"].iloc[-1], 60)
    chosen = np.unique(
        np.searchsorted(table["lag_ps"].to_numpy(), wanted * (1 - 1e-9)).clip(max=len(table) - 1)
    )
    thin = table.iloc[chosen]
    return {
        short: [_rounded(x) for x in thin[name].tolist()]
        for short, name in (("lag", "lag_ps"), ("msd", "msd_A2"), ("se", "msd_se_A2"))
    }


def _integers(values: np.ndarray) -> list[int | None]:
    return [round(x) if math.isfinite(x) else None for x in values.tolist()]


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
