"""Two campaigns side by side: what changed between them, and whether that is more than their intervals allow.

Ratios B/A have intervals in the logarithm: the distances of each value from the ends of its own interval, added in
quadrature, which takes the two campaigns as independent.
"""

from __future__ import annotations

import math

import pandas as pd

_TAKEN = ("status", "verdict", "D_ranked_cm2_s", "D_low", "D_high", "nu1_cm", "I_low_A3", "I_low_low", "I_low_high", "R_low",
          "R_low_low", "R_low_high", "rank")  # fmt: skip


def compare(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """One row for each candidate and temperature of either ranking (as from ionraman.ranking).

    Columns: those of `_TAKEN` with _A and _B; D_ratio, I_ratio (B/A) with _low and _high, empty where a value or an interval
    is missing or the windows differ; D_agree, I_agree, R_agree: whether the interval of the ratio holds 1 (of D, where one is a
    bound: whether the intervals overlap), empty where it cannot be told; note.
    """
    keys = ["candidate", "temperature_K"]
    both = pd.merge(
        first[[*keys, *_TAKEN]],
        second[[*keys, *_TAKEN]],
        on=keys,
        how="outer",
        suffixes=("_A", "_B"),
        indicator=True,
    )
    rows = [_row(row) for row in both.astype(object).where(both.notna(), None).to_dict("records")]
    columns = [*keys, *(f"{name}_{side}" for name in _TAKEN for side in "AB")]
    columns += [f"{name}_ratio{end}" for name in "DI" for end in ("", "_low", "_high")]
    columns += ["D_agree", "I_agree", "R_agree", "note"]
    table = pd.DataFrame(rows, columns=columns)
    place = table["rank_A"].fillna(math.inf).astype(float)
    return table.iloc[place.argsort(kind="stable")].reset_index(drop=True)


def _row(row: dict) -> dict:
    notes = []
    if row["_merge"] != "both":
        notes.append(f"only in {'A' if row['_merge'] == 'left_only' else 'B'}")
    intensity = {side: [row[f"I_low_{part}_{side}"] for part in ("A3", "low", "high")] for side in "AB"}
    share = {side: [row[f"R_low{part}_{side}"] for part in ("", "_low", "_high")] for side in "AB"}
    diffusivity = {
        side: [row[f"D_{part}_{side}"] for part in ("ranked_cm2_s", "low", "high")] for side in "AB"
    }
    if _known(row["nu1_cm_A"], row["nu1_cm_B"]) and row["nu1_cm_A"] != row["nu1_cm_B"]:
        notes.append(
            f"windows from {row['nu1_cm_A']:g} and {row['nu1_cm_B']:g} cm^-1: intensities not comparable"
        )
        intensity["B"] = share["B"] = [None] * 3
    if row["_merge"] == "both" and row["status_A"] != row["status_B"]:
        notes.append(f"{row['status_A']} in A, {row['status_B']} in B")
    if _known(row["verdict_A"], row["verdict_B"]) and row["verdict_A"] != row["verdict_B"]:
        notes.append("another verdict")
    result = {key: value for key, value in row.items() if key != "_merge"} | {"note": "; ".join(notes)}
    for name, values in (("I", intensity), ("D", diffusivity)):
        ratio = _ratio(values["A"], values["B"])
        result |= dict(zip((f"{name}_ratio", f"{name}_ratio_low", f"{name}_ratio_high"), ratio, strict=True))
        result[f"{name}_agree"] = None if ratio[0] is None else ratio[1] <= 1 <= ratio[2]
    if result["D_agree"] is None:
        result["D_agree"] = _overlap(diffusivity["A"][1:], diffusivity["B"][1:])
    low, high = _ratio(share["A"], share["B"])[1:]
    result["R_agree"] = None if low is None else low <= 1 <= high
    return result


def _ratio(first: list, second: list) -> tuple:
    """B/A with its interval from [value, low, high] of each; three None where one of the six is missing or not positive."""
    if not _known(*first, *second) or min(*first, *second) <= 0:
        return None, None, None
    (a, a_low, a_high), (b, b_low, b_high) = (
        [math.log(value) for value in values] for values in (first, second)
    )
    below, above = math.hypot(b - b_low, a_high - a), math.hypot(b_high - b, a - a_low)
    return math.exp(b - a), math.exp(b - a - below), math.exp(b - a + above)


def _overlap(first: list, second: list) -> bool | None:
    if not _known(first[1], second[1]):
        return None
    return max(first[0] or 0.0, second[0] or 0.0) <= min(first[1], second[1])


def _known(*values) -> bool:
    return all(value is not None and value == value for value in values)
