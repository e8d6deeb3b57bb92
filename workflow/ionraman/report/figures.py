"""Pictures of a campaign for a paper, a slide or a README, drawn with matplotlib."""

import math
from pathlib import Path
from typing import BinaryIO

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from ionraman.report.curves import read_spectrum, run_folder

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#b0508f", "#1c2126", "#e69f00")  # after Okabe and Ito (2008)
_OTHER = "#8a939c"
_MARKERS = {"diffusing": ("o", False), "few jumps": ("D", True), "not diffusing": ("$\\downarrow$", False)}
_STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "xtick.major.width": 0.7,
    "ytick.major.width": 0.7, "legend.frameon": False, "legend.fontsize": 7, "mathtext.fontset": "dejavusans",
    "svg.hashsalt": "ionraman", "savefig.dpi": 300,
}  # fmt: skip


def overview(
    ranking: pd.DataFrame,
    runs_folder: Path | str,
    out_path: Path | str | BinaryIO,
    *,
    top: int = 4,
    end_cm: float = 150.0,
    suffix: str | None = None,
) -> None:
    """Diffusivity against low-frequency intensity of the ranked rows, and Raman spectra of the first `top`.

    ranking: as from ionraman.ranking.rank; the spectra, from runs_folder, reach to end_cm. A color stands for
    a candidate in both panels, a symbol for the verdict. The suffix of out_path decides the format: png, svg
    or pdf; for an open file it is given as suffix. Equal input gives an equal file.

    Raises ValueError if no ranked row has an intensity, and OSError if a spectrum cannot be read.
    """
    ranked = ranking[ranking["rank"].notna() & ranking["I_low_A3"].notna()]
    if ranked.empty:
        raise ValueError("no ranked row has a Raman intensity: there is nothing to draw yet")
    ranked = ranked[ranked["nu1_cm"] == ranked["nu1_cm"].iloc[0]]
    shown = [*_COLORS * (1 + top // len(_COLORS))][:top]
    rows = ranked.assign(color=[*shown, *[_OTHER] * len(ranked)][: len(ranked)]).to_dict("records")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        _map(left, rows)
        _spectra(right, rows[:top], Path(runs_folder), end_cm)
        for letter, axes in (("a", left), ("b", right)):
            axes.set_title(letter, loc="left", fontweight="bold", fontsize=10, x=-0.14)
        figure.draw_without_rendering()
        _label(left, [row for row in rows if row["verdict"] in _MARKERS][:12])
        kind = suffix or Path(out_path).suffix.lower().removeprefix(".")
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(out_path, format=kind, metadata=metadata)


def _height(row: dict) -> float:
    return row["D_high"] if row["verdict"] == "not diffusing" else row["D_ranked_cm2_s"]


def _map(axes: Axes, rows: list[dict]) -> None:
    """D against I_low with intervals; bounds as arrows."""
    used = []
    for row in rows[::-1]:
        if row["verdict"] not in _MARKERS:
            continue
        used.append(row["verdict"])
        I_low, D = row["I_low_A3"], _height(row)
        ends = [row["I_low_low"], row["I_low_high"]]
        style = {"color": row["color"], "elinewidth": 0.9, "linestyle": "none"}
        if not pd.isna(ends).any():
            style["xerr"] = [[I_low - ends[0]], [ends[1] - I_low]]
        marker, hollow = _MARKERS[row["verdict"]]
        if row["verdict"] == "not diffusing":
            axes.errorbar(I_low, D, yerr=0.4 * D, uplims=True, capsize=2, **style)
        else:
            style |= {"marker": marker, "mfc": "white" if hollow else row["color"], "markersize": 5}
            axes.errorbar(I_low, D, yerr=[[D - row["D_low"]], [row["D_high"] - D]], **style)
    axes.set(xscale="log", yscale="log", ylabel="$D$ (cm$^\\mathrm{2}$ s$^{\\mathrm{-1}}$)")
    axes.margins(x=0.18, y=0.14)
    exponent = math.floor(math.log10(rows[0]["I_low_A3"]))
    axes.set_xlabel(f"$I_\\mathrm{{low}}$ ($\\mathrm{{10^{{{exponent}}}}}$ Å$^\\mathrm{{3}}$)")
    low, high = axes.get_xlim()
    narrow = high / low < 300
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**exponent:.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for verdict in [name for name in _MARKERS if name in used]:
        marker, hollow = _MARKERS[verdict]
        axes.plot(
            [],
            [],
            ls="none",
            marker=marker,
            mfc="white" if hollow else _OTHER,
            color=_OTHER,
            ms=5,
            label=verdict,
        )
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.02, 1.0),
        ncols=3,
        borderaxespad=0,
        handletextpad=0.1,
        columnspacing=1,
    )


def _label(axes: Axes, rows: list[dict]) -> None:
    """Names beside the points, where they cover neither a point nor another name; else none."""
    centres = [axes.transData.transform((row["I_low_A3"], _height(row))) for row in rows]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in centres]
    for row, centre in zip(rows, centres, strict=True):
        for dx, dy, side in ((5, 4, "left"), (5, -10, "left"), (-5, 4, "right"), (-5, -10, "right")):
            text = axes.annotate(
                row["candidate"], (row["I_low_A3"], _height(row)), (dx, dy), textcoords="offset points",
                fontsize=6.5, ha=side, color="#59636e" if row["color"] == _OTHER else row["color"],
            )  # fmt: skip
            box = text.get_window_extent()
            own = Bbox.from_bounds(*(centre - 5), 10, 10)
            if not any(box.overlaps(other) for other in taken if other.bounds != own.bounds):
                taken.append(box)
                break
            text.remove()


def _spectra(axes: Axes, rows: list[dict], runs_folder: Path, end_cm: float) -> None:
    """Unpolarised intensity with a band of one standard error; the marker's window is shaded."""
    axes.axvspan(rows[0]["nu1_cm"], rows[0]["nu2_cm"], color="#fdf3d8", lw=0)
    for row in rows:
        table = read_spectrum(run_folder(runs_folder, row["candidate"], row["temperature_K"]), end_cm)
        nu, intensity, error = (table[x] for x in ("wavenumber_cm", "I_unpolarised", "I_unpolarised_se"))
        used = nu >= row["nu1_cm"]
        band = (intensity - error)[used], (intensity + error)[used]
        axes.fill_between(nu[used], *band, color=row["color"], alpha=0.25, lw=0)
        axes.plot(nu[~used], intensity[~used], color="#b9c0c7", lw=0.9)
        axes.plot(nu[used], intensity[used], color=row["color"], lw=1.1, label=row["candidate"])
    axes.set(yscale="log", xlim=(0, end_cm), xlabel="Wavenumber (cm$^{\\mathrm{-1}}$)")
    axes.set_ylabel("$I(\\nu)$ (Å$^\\mathrm{3}$ per cm$^{\\mathrm{-1}}$)")
    axes.margins(y=0.12)
    columns = 2 if len(rows) > 3 else len(rows)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.02, 1.0), ncols=columns, borderaxespad=0, handlelength=1.4
    )
