"""Numbers and sentences of the report, as a person reads them."""

import math
import re
from collections import Counter

import pandas as pd
from markupsafe import Markup, escape

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SUBSCRIPT = str.maketrans("0123456789.", "₀₁₂₃₄₅₆₇₈₉.")
ROLES = {"force": "force field", "alpha": "polarizability model"}
_KEYS = {
    "pareto": "Pareto layers over low-frequency Raman intensity and diffusivity, inside a layer by intensity",
    "I_low": "low-frequency Raman intensity",
    "D": "diffusivity",
}

LIMITS = (
    "Spectra are transverse-optical: no longitudinal lines and no Fröhlich part.",
    "Scattering is non-resonant: the polarizability is the static electronic one. Candidates whose given gap "
    "is below 1.5 times the laser's energy are marked.",
    "The polarizability model has a finite reach and leaves out dipole-induced-dipole terms beyond it.",
    "A measured powder adds surface, absorption and refraction, which change the intensity from one material "
    "to the next. I_low also grows with the polarizability of the anions; a row is robust only if R_low, a "
    "share, and r_low, free of size and of any scale of the polarizability, agree with it on the order.",
    "D and its bounds hold for the carriers and the cell that were simulated.",
)


def known(value) -> bool:
    """Whether a cell of a table holds something: not None, NaN or NA."""
    return value is not None and value is not pd.NA and not (isinstance(value, float) and math.isnan(value))


def formula(text: str | None) -> str:
    """Na3SbS4 as Na₃SbS₄."""
    return (text or "").translate(_SUBSCRIPT)


def symbols(text: str) -> Markup:
    """HTML of a text, with I_low, R_low, r_low and chi_low as symbols with subscripts."""
    html = re.sub(r"\b(I|R|r|chi)_low\b", r"<i>\1</i><sub>low</sub>", str(escape(text)))
    return Markup(html.replace("<i>chi</i>", "<i>χ</i>"))


def power_of_ten(exponent: int) -> str:
    """10⁻³ for -3."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def exponent_of(value: float) -> int:
    """Power of ten that a number is shown with: 0 if it reads well without one."""
    exponent = math.floor(math.log10(abs(value))) if value else 0
    return 0 if -3 < exponent < 4 else exponent


def number(value, digits: int = 3) -> str:
    """1234 as 1234, 0.000012 as 1.2 × 10⁻⁵; a dash if there is none."""
    if not known(value):
        return "–"
    exponent = exponent_of(value)
    shown = (
        float(f"{value / 10.0**exponent:.{digits}g}")
        if abs(value) < 1000
        else round(value / 10.0**exponent, 2)
    )
    return f"{shown:g}" + _times(exponent)


def with_interval(value, low, high, exponent: int | None = None) -> str:
    """5.1 (4.6–5.6) × 10⁻³, or the value alone if it has no interval; a given exponent is not shown."""
    if not known(value):
        return "–"
    common = exponent_of(value) if exponent is None else exponent
    ends = [low, high] if known(low) and known(high) else []
    first, *rest = _significant([x / 10.0**common for x in (value, *ends)], value / 10.0**common)
    return first + (f" ({'–'.join(rest)})" if rest else "") + ("" if exponent is not None else _times(common))


def _significant(values: list[float], leading: float) -> list[str]:
    """Values with as many decimals as show two digits of the leading one, and two digits of smaller ones."""
    texts = []
    for value in values:
        size = min(abs(value), abs(leading)) if value else abs(leading)
        decimals = max(0, 1 - math.floor(math.log10(size))) if size else 1
        texts.append(f"{value:.{decimals}f}")
    return texts


def _times(exponent: int) -> str:
    return f" × {power_of_ten(exponent)}" if exponent else ""


def diffusivity(row: dict) -> str:
    """D with its interval, the interval alone for few jumps, a bound where nothing jumped or nothing was settled."""
    match row["verdict"]:
        case "diffusing":
            return with_interval(row["D_cm2_s"], row["D_low"], row["D_high"])
        case "few jumps" if known(row["D_low"]) and known(row["D_high"]):
            exponent = exponent_of(row["D_high"])
            ends = [row[end] / 10.0**exponent for end in ("D_low", "D_high")]
            return "–".join(_significant(ends, ends[1])) + _times(exponent)
        case "not diffusing" | "undetermined" if known(row["D_high"]):
            return f"< {number(row['D_high'], 2)}"
    return "–"


def cell_lengths(cell: list[list[float]] | None) -> str:
    """Lengths (A) and angles (degrees) of a cell given by its vectors."""
    if not cell:
        return "–"
    lengths = [math.hypot(*vector) for vector in cell]
    pairs = ((1, 2), (0, 2), (0, 1))
    cosines = [
        sum(a * b for a, b in zip(cell[i], cell[j], strict=True)) / (lengths[i] * lengths[j])
        for i, j in pairs
    ]
    angles = [math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) for cosine in cosines]
    return " ".join(f"{x:.3f}" for x in lengths) + "; " + " ".join(f"{x:.1f}" for x in angles)


def listed(items: list[str], most: int = 6) -> str:
    """a, b and c; the rest of a long list is counted."""
    items = [*items[:most], f"{len(items) - most} more"] if len(items) > most + 1 else items
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def opening(table: pd.DataFrame, info: dict) -> list[str]:
    """What was simulated, with what, and what may be compared: one paragraph an item."""
    return [
        _what(table, info),
        _models(table, info),
        *_intensities(table),
        *_bound(table),
        _comparable(table),
    ]


def _what(table: pd.DataFrame, info: dict) -> str:
    temperatures = listed([f"{T:g}" for T in sorted(table["temperature_K"].unique())])
    candidates, ranked = table["candidate"].nunique(), int(table["rank"].notna().sum())
    states = Counter(table["status"])
    complete = states.pop("complete", 0)
    others = "" if not states else f" ({listed([f'{n} {status}' for status, n in sorted(states.items())])})"
    return (
        f"{candidates} {_plural(candidates, 'candidate')} at {temperatures} K: {len(table)} "
        f"{_plural(len(table), 'run')}, {complete} of them complete{others}. "
        f"{ranked} {_plural(ranked, 'is', 'are')} ranked, at {info['reference_temperature_K']:g} K, "
        f"by {_KEYS[info['key']]}."
    )


def _models(table: pd.DataFrame, info: dict) -> str:
    described = [
        f"{ROLES[model['role']]} {model['name']}, SHA-256 {model['sha256'][:12]}, licence {model['licence']}"
        for model in info["models"]
    ]
    text = f"Models: {'; '.join(described)}." if described else "No model is recorded."
    if lengths := _range(table["production_ps"]):
        text += f" Molecular dynamics: {_range(table['replicas'])} replicas of {lengths} ps for each run"
        text += f", in steps of {_range(table['timestep_fs'])} fs."
    for column, what in (
        ("force_model_sha256", "force fields"),
        ("alpha_model_sha256", "polarizability models"),
    ):
        if table.loc[table["status"] == "complete", column].nunique() > 1:
            text += f" The rows were computed with different {what}, which are listed with each candidate."
    return text


def _intensities(table: pd.DataFrame) -> list[str]:
    with_marker = table[table["I_low_A3"].notna() & table["nu1_cm"].notna()]
    if with_marker.empty:
        return ["No Raman intensity has been computed yet."]
    ranked = with_marker[with_marker["rank"].notna()]
    first = (ranked if len(ranked) else with_marker).iloc[0]
    text = (
        f"I_low is the Stokes intensity of an unpolarised powder from {first['nu1_cm']:g} to "
        f"{first['nu2_cm']:g} cm⁻¹ with a laser of {first['laser_nm']:g} nm."
    )
    coarse = with_marker[with_marker["nu1_cm"] > first["nu1_cm"]]
    if len(coarse):
        edges = listed([f"{edge:g}" for edge in sorted(coarse["nu1_cm"].unique())])
        runs, start = _plural(len(coarse), "run"), _plural(len(coarse), "starts", "start")
        text += f" {len(coarse)} {runs} too short for that {start} at {edges} cm⁻¹ instead."
    return [text]


def _bound(table: pd.DataFrame) -> list[str]:
    still = table.loc[table["verdict"] == "not diffusing", "D_high"].dropna()
    if still.empty:
        return []
    spread = (
        ""
        if len(still) == 1
        else f" (median of {len(still)} runs; from {number(still.min(), 2)} to {number(still.max(), 2)})"
    )
    return [f"Where no ion jumped, the run bounds D to below {number(still.median(), 2)} cm²/s{spread}."]


def _comparable(table: pd.DataFrame) -> str:
    text = (
        "Not comparable: I_low at different temperatures (chi_low, listed with each candidate, is for that), "
        "and I_low of windows that start at different wavenumbers."
    )
    resonant = table.loc[table["near_resonance"].fillna(False), "candidate"].unique().tolist()
    return text + (f" Near resonance: {listed(resonant)}." if resonant else "")


def _range(column: pd.Series) -> str:
    found = column.dropna()
    ends = sorted({f"{value:g}" for value in (found.min(), found.max())}, key=float) if len(found) else []
    return " to ".join(ends)


def _plural(count: int, one: str, more: str | None = None) -> str:
    return one if count == 1 else more or f"{one}s"
