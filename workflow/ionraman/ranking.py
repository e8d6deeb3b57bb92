"""Ranking of a campaign: one row per candidate and temperature, the comparable ones ordered.

Ranked are rows at the reference temperature whose status is "complete". The order is that of Pareto layers
over I_low and D, both to be large, and of I_low inside a layer; or that of I_low or of D alone. For the order
D is 0 where the verdict is "not diffusing", and the geometric mean of the interval's ends where it is "few
jumps".

Comparable: I_low depends on its window, and of rows with different nu1_cm only the largest group (of equal
ones that with the smallest nu1_cm) is ranked. The key D compares no intensities: it ranks every group, and
also rows of status "unsupported" whose transport is known, that is, where only the polarizability model is
missing.

tie_group: neighbours whose order is less than 95 % probable, see ionraman.ordering.

robust: true if the positions that R_low and r_low give a row, among the ranked rows of one window, both lie
inside the positions taken by its tie group in the order of I_low alone. Empty where nothing can be told: a
row without an interval of I_low, or one tie group that holds all rows of the window.

trusted: whether the candidate's composition lies inside the training set of the models (`ionraman.trust`);
trust_note says why not. Untrusted rows are ranked, and marked.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from ionraman.ordering import Entry, best_first, draw_diffusivity, draw_intensity, pareto_layers, tie_groups

KEYS = ("pareto", "I_low", "D")

MOST_DRIFT_MEV_ATOM = 1.0
"""Drift of the total energy over the run above which a row is marked."""

_STATUSES = ("complete", "running", "pending", "unsupported", "unstable", "melted", "failed", "invalid")
_EV_NM = 1239.841984

_FIRST_COLUMNS = [
    *("rank", "tie_group", "candidate", "formula", "temperature_K", "status", "reason", "verdict"),
    *("D_cm2_s", "D_low", "D_high", "jumps", "nu1_cm", "I_low_A3", "I_low_low", "I_low_high"),
    *("R_low", "r_low", "robust", "trusted", "alpha_spread", "T_run_K", "npt_settled", "npt_ps", "steps"),
    *("force_model_sha256", "alpha_model_sha256", "layer", "rank_note", "trust_note", "notes"),
]
_PARTS = {  # columns taken over unchanged, by the part of the summary that holds them
    "transport": ["verdict", "D_cm2_s", "D_low", "D_high", "jumps", "ions_jumped"],
    "marker": [
        *("nu1_cm", "nu2_cm", "laser_nm", "I_low_A3", "I_low_low", "I_low_high", "R_low", "R_low_low"),
        *("R_low_high", "r_low", "r_low_low", "r_low_high", "chi_low", "chi_low_low", "chi_low_high"),
        *("alpha_spread", "floor_share", "resolution_cm", "nu_max_cm"),
    ],
    "dynamics": [
        *("npt_settled", "npt_ps", "steps", "replicas", "production_ps", "timestep_fs", "drift_meV_atom"),
        *("seed", "device", "seconds", "force_model", "force_model_sha256"),
    ],
    "structure": [
        *("n_atoms", "shortest_image_A", "carriers_requested", "net_charge_e", "gap_eV", "sigma300_S_cm"),
        *("sigma_source", "tags"),
    ],
}
_TYPES = dict.fromkeys(
    ("rank", "tie_group", "layer", "jumps", "ions_jumped", "steps", "replicas", "n_atoms", "seed"), "Int64"
) | dict.fromkeys(("robust", "trusted", "near_resonance", "npt_settled"), "boolean") | {"trust_note": "string"}


def rank(
    summaries: Iterable[dict],
    *,
    reference_temperature_K: float,
    key: str = "pareto",
    missing: Iterable[dict] = (),
) -> pd.DataFrame:
    """Table of all rows, ranked ones first.

    summaries: contents of summary.json; missing: rows without one, as dicts with candidate, temperature_K,
    status and reason. Units are in the columns' names, otherwise as in the summaries (D_* in cm^2/s, I_low_*
    in A^3, chi_low in A^3 cm). rank and tie_group are empty for rows that are not ranked, and rank_note says
    why; layer is the Pareto layer (key "pareto"); D_ranked_cm2_s is the D of the order; near_resonance is
    true where the gap is given and below 1.5 times the laser's energy; T_run_K is the mean temperature of the
    production over replicas; notes are warnings about the run, separated by "; ". The rows that are not ranked follow by
    status, temperature (the reference first) and name. The result does not depend on the order of the input.

    A summary may hold `trust` (trusted, reason), which becomes the columns trusted and trust_note.

    Raises ValueError for an unknown key and for a candidate that occurs twice at one temperature.
    """
    if key not in KEYS:
        raise ValueError(f"ranking key is {key!r}; allowed are {', '.join(KEYS)}")
    pairs = [(_row(summary), summary) for summary in [*summaries, *missing]]
    pairs.sort(key=lambda pair: (pair[0]["candidate"], pair[0]["temperature_K"]))
    rows = [row for row, _ in pairs]
    for row, following in pairwise(rows):
        if all(row[name] == following[name] for name in ("candidate", "temperature_K")):
            raise ValueError(
                f"{row['candidate']} occurs twice at {row['temperature_K']:g} K; keep one of the two"
            )

    for row in rows:
        row["rank_note"] = _why_not(row, reference_temperature_K, key)
    eligible = [i for i, row in enumerate(rows) if row["rank_note"] is None]
    nu1_cm = _largest_window([rows[i] for i in eligible])
    comparable = [i for i in eligible if nu1_cm is not None and rows[i]["nu1_cm"] == nu1_cm]
    for i in eligible:
        if key == "D":
            if rows[i]["status"] == "unsupported":
                rows[i]["rank_note"] = "ranked by its diffusivity alone: it has no Raman intensity"
        elif rows[i]["nu1_cm"] != nu1_cm:
            own = rows[i]["nu1_cm"]
            rows[i]["rank_note"] = (
                f"window from {own:g} cm^-1, of ranked rows from {nu1_cm:g}: not comparable"
            )

    ranked = eligible if key == "D" else comparable
    entries = {i: _entry(*pairs[i]) for i in ranked}
    order = [ranked[k] for k in _best_first(key, list(entries.values()))]
    layers = pareto_layers([entries[i].I_low for i in order], [entries[i].D for i in order])
    groups = tie_groups(key, [entries[i] for i in order])
    for place, i in enumerate(order):
        rows[i] |= {"rank": place + 1, "tie_group": groups[place]}
        rows[i]["layer"] = layers[place] if key == "pareto" else None
    _mark_robust([rows[i] for i in comparable], [entries[i] for i in comparable])

    def following_place(i: int) -> tuple:
        status = rows[i]["status"]
        place = _STATUSES.index(status) if status in _STATUSES else len(_STATUSES)
        other = not _same_temperature(rows[i], reference_temperature_K)
        return place, other, rows[i]["temperature_K"], rows[i]["candidate"]

    rest = sorted(set(range(len(rows))) - set(order), key=following_place)
    others = [name for name in _row({}) if name not in _FIRST_COLUMNS]
    table = pd.DataFrame([rows[i] for i in [*order, *rest]], columns=[*_FIRST_COLUMNS, *others])
    return table.astype(_TYPES)


def read_ranking(path: Path | str) -> pd.DataFrame:
    """The table that rank returned, from a CSV file written with to_csv(path, index=False)."""
    # A candidate may be called NA or 1e5.
    text = dict.fromkeys(("candidate", "formula"), str)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]).astype(_TYPES)


def _row(summary: dict) -> dict:
    """The columns of one row that come from its summary alone."""
    row = {name: summary.get(name) for name in ("candidate", "formula", "temperature_K", "status", "reason")}
    for part, names in _PARTS.items():
        values = summary.get(part) or {}
        row |= {name: values.get(name) for name in names}
    row |= {name: summary.get(name) for name in ("alpha_model", "alpha_model_sha256")}
    trust = summary.get("trust") or {}
    row |= {"trusted": trust.get("trusted"), "trust_note": trust.get("reason") or None}
    row["T_run_K"] = (summary.get("dynamics") or {}).get("mean_temperature_K")
    row["D_ranked_cm2_s"] = _ranked_diffusivity(row)
    gap, laser = row["gap_eV"], row["laser_nm"]
    row["near_resonance"] = gap < 1.5 * _EV_NM / laser if gap is not None and laser is not None else None
    row["notes"] = "; ".join(_notes(row, summary.get("marker") or {})) or None
    return row


def _notes(row: dict, marker: dict) -> list[str]:
    """Warnings about a run that has results."""
    notes = []
    if row["npt_settled"] is False:
        notes.append(f"the cell had not settled after {row['npt_ps']:g} ps of NPT")
    drift = row["drift_meV_atom"]
    if drift is not None and abs(drift) > MOST_DRIFT_MEV_ATOM:
        notes.append(f"energy drift of {drift:.2g} meV/atom exceeds {MOST_DRIFT_MEV_ATOM:g} meV/atom")
    if marker.get("unit") == "block":
        notes.append(
            "intervals of the intensities over blocks, not replicas: too narrow if a line in the window is narrower "
            "than the resolution"
        )
    return notes


def _ranked_diffusivity(row: dict) -> float | None:
    match row["verdict"]:
        case "diffusing":
            return row["D_cm2_s"]
        case "few jumps" if row["D_low"] and row["D_high"]:
            return math.sqrt(row["D_low"] * row["D_high"])
        case "not diffusing":
            return 0.0
    return None


def _same_temperature(row: dict, reference_temperature_K: float) -> bool:
    return math.isclose(row["temperature_K"], reference_temperature_K, abs_tol=1e-6)


def _why_not(row: dict, reference_temperature_K: float, key: str) -> str | None:
    """Why a row cannot be ranked whatever the others are; None if it can."""
    if not _same_temperature(row, reference_temperature_K):
        return f"{row['temperature_K']:g} K is not the reference temperature, {reference_temperature_K:g} K"
    transport_only = key == "D" and row["status"] == "unsupported" and row["D_ranked_cm2_s"] is not None
    if row["status"] != "complete" and not transport_only:
        return f"status {row['status']}: only complete rows are ranked"
    if key != "I_low" and row["D_ranked_cm2_s"] is None:
        return "its diffusivity is undetermined"
    if key != "D" and (row["I_low_A3"] is None or row["nu1_cm"] is None):
        return "its low-frequency intensity is undetermined"
    return None


def _largest_window(rows: list[dict]) -> float | None:
    edges = [row["nu1_cm"] for row in rows if row["nu1_cm"] is not None]
    return min(edges, key=lambda edge: (-edges.count(edge), edge), default=None)


def _entry(row: dict, summary: dict) -> Entry:
    transport, marker = summary.get("transport") or {}, summary.get("marker") or {}
    name = f"{row['candidate']} {row['temperature_K']:g}"
    units = [] if marker.get("undetermined") else marker.get("I_low_units") or []
    D = _or_lowest(row["D_ranked_cm2_s"])
    low, high = _or_lowest(row["D_low"]), row["D_high"] or math.inf
    return Entry(
        I_low=_or_lowest(row["I_low_A3"]),
        D=D,
        D_bound=high,
        I_low_draws=draw_intensity(units, name, row["alpha_model_sha256"]),
        D_draws=draw_diffusivity(D, low, high, transport.get("confidence") or 0.95, name),
    )


def _or_lowest(value: float | None) -> float:
    return -math.inf if value is None else value


def _best_first(key: str, entries: list[Entry]) -> list[int]:
    return best_first(
        key, np.array([entry.I_low for entry in entries]), np.array([entry.D for entry in entries])
    ).tolist()


def _mark_robust(rows: list[dict], entries: list[Entry]) -> None:
    """Set robust on rows that share a window."""
    order = _best_first("I_low", entries)
    group_of_place = tie_groups("I_low", [entries[i] for i in order])
    if len(set(group_of_place)) < 2:
        return

    def group(name: str) -> dict[int, int]:
        """Tie group, in the order of I_low, of the place that a row takes by another quantity."""
        by_value = sorted(order, key=lambda i: math.inf if rows[i][name] is None else -rows[i][name])
        return {i: group_of_place[place] for place, i in enumerate(by_value)}

    own, by_share, by_reduced = group("I_low_A3"), group("R_low"), group("r_low")
    for i, row in enumerate(rows):
        if entries[i].I_low_draws is None:
            continue
        measured = row["R_low"] is not None and row["r_low"] is not None
        row["robust"] = measured and own[i] == by_share[i] == by_reduced[i]
