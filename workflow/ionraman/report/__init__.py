"""The report of a campaign: one HTML page that needs no other file and no network."""

import json
import math
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from ionraman.report import curves, words
from ionraman.report.details import candidate_views


def write_report(
    ranking: pd.DataFrame,
    summaries: list[dict],
    runs_folder: Path | str,
    out_path: Path | str,
    campaign_info: dict,
) -> None:
    """Write the page to out_path.

    ranking: as from ionraman.ranking.rank; summaries: the contents of summary.json of its rows, as far as
    they exist; runs_folder: holds <candidate>/<T>K/msd.csv and spectrum.csv, a missing or unreadable one is
    named on the page. campaign_info: campaign (name), reference_temperature_K, key (of the ranking),
    confidence, version (of ionraman), and models, a list of {role, name, sha256, licence} with the role
    "force" or "alpha"; other entries are not used.

    The page depends on its input alone: it holds no date.
    """
    found, problems = curves.collect(ranking, Path(runs_folder))
    tied = ranking.groupby("tie_group")["rank"].agg(["min", "max"]).to_dict("index")
    views = candidate_views(ranking, summaries, campaign_info["confidence"])
    targets = {view["name"]: view["first"] for view in views}
    typical = ranking["I_low_A3"].astype(float).median()
    exponent = math.floor(math.log10(typical)) if typical > 0 else 0
    rows = [
        _table_row(row, tied, exponent, campaign_info["reference_temperature_K"])
        | {"target": targets[row["candidate"]]}
        for row in ranking.to_dict("records")
    ]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"formula": words.formula, "symbols": words.symbols}
    page = environment.from_string(_resource("template.html.j2")).render(
        info=campaign_info,
        opening=words.opening(ranking, campaign_info),
        limits=words.LIMITS,
        roles=words.ROLES,
        columns=_columns(exponent),
        rows=rows,
        candidates=views,
        problems=problems,
        with_curves=sum(curve is not None for curve in found),
        most_rows=curves.MOST_ROWS,
        style=_resource("report.css"),
        scripts=[_resource(f"{name}.js") for name in ("axes", "charts", "figures", "report")],
        data=_json(_chart_data(ranking, found)),
    )
    Path(out_path).write_text(page, encoding="utf-8")


def _resource(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _json(data) -> str:
    """JSON that can stand inside a script element: without <, > and &."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value):
    return value if words.known(value) else None


def _columns(exponent: int) -> list[tuple[str, str, str, str, bool]]:
    """Key, heading, unit, explanation, and whether a number, of each column of the table."""
    intensity_unit = f"{words.power_of_ten(exponent)} Å³" if exponent else "Å³"
    return [
        ("rank", "Rank", "", "Position at the reference temperature", True),
        ("tied", "Tied", "", "Ranks that cannot be told apart with 95 % probability", True),
        ("candidate", "Candidate", "", "Name and formula of the simulated cell", False),
        ("T", "T", "K", "Temperature", True),
        ("verdict", "Verdict", "", "Whether the mobile ion diffuses within the run", False),
        ("D", "D", "cm²/s", "Tracer diffusivity: value with interval, interval of few jumps, or bound", True),
        ("I_low", "I_low", intensity_unit, "Low-frequency Stokes intensity with its interval", True),
        ("R_low", "R_low", "", "Low-frequency share of the whole intensity", True),
        ("r_low", "r_low", "", "Intensity free of cell size and of any scale of the polarizability", True),
        ("robust", "Robust", "", "Whether the three intensities agree on the row's position", False),
        ("alpha", "α spread", "", "Relative deviation of the intensity over polarizability models", True),
        ("status", "Status", "", "Status with its reason, or why the row is not ranked", False),
    ]


def _table_row(row: dict, tied: dict[int, dict], exponent: int, reference_temperature_K: float) -> dict:
    """Texts and sorting values of one row of the table.

    tied: lowest and highest rank of each tie group; exponent: power of ten of the column of I_low.
    """
    ranked = words.known(row["rank"])
    first, last = tied[row["tie_group"]].values() if ranked else (None, None)
    told = ranked or (row["status"] == "complete" and row["temperature_K"] == reference_temperature_K)
    notes = [row["reason"], row["rank_note"] if told else None]
    if words.known(row.get("notes")):  # not in tables of earlier versions
        notes += row["notes"].split("; ")
    if row["near_resonance"] is True:
        notes.append(f"gap {row['gap_eV']:g} eV: near resonance")
    intensity = [row[name] for name in ("I_low_A3", "I_low_low", "I_low_high")]
    texts = {
        "rank": (row["rank"], words.number(row["rank"]) if ranked else "–"),
        "tied": (first, f"{first}–{last}") if first != last else (None, "–"),
        "T": (row["temperature_K"], f"{row['temperature_K']:g}"),
        "verdict": (row["verdict"], row["verdict"] if words.known(row["verdict"]) else "–"),
        "D": (row["D_ranked_cm2_s"], words.diffusivity(row)),
        "I_low": (row["I_low_A3"], words.with_interval(*intensity, exponent)),
        "R_low": (row["R_low"], words.number(row["R_low"], 2)),
        "r_low": (row["r_low"], words.number(row["r_low"], 2)),
        "robust": (row["robust"], {True: "yes", False: "no"}.get(row["robust"] if ranked else None, "–")),
        "alpha": (
            row["alpha_spread"],
            f"{100 * row['alpha_spread']:.0f} %" if words.known(row["alpha_spread"]) else "–",
        ),
    }
    return {
        "candidate": row["candidate"],
        "formula": row["formula"] if words.known(row["formula"]) else None,
        "status": row["status"],
        "notes": [note for note in notes if words.known(note) and note],
        "ranked": ranked,
        "tied": first != last,
        "cells": {key: {"value": _plain(value), "text": text} for key, (value, text) in texts.items()},
    }


def _chart_data(ranking: pd.DataFrame, found: list[dict | None]) -> dict:
    """What the figures draw, in the order of the table."""
    names = {
        "name": "candidate", "T": "temperature_K", "rank": "rank", "verdict": "verdict",
        "D": "D_ranked_cm2_s",
        "D_low": "D_low", "D_high": "D_high", "I": "I_low_A3", "I_low": "I_low_low", "I_high": "I_low_high",
        "nu1": "nu1_cm", "nu2": "nu2_cm",
    }  # fmt: skip
    rows = [
        {short: _plain(row[name]) for short, name in names.items()} | {"curves": curve}
        for row, curve in zip(ranking.to_dict("records"), found, strict=True)
    ]
    return {"rows": rows}
