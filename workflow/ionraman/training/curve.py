"""Learning curve of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

QUANTITIES = {
    "force_rmse_meV_A": "force error, meV/A",
    "isotropic": "isotropic error / thermal sd",
    "anisotropic": "anisotropic error / thermal sd",
}


def table(reports: Sequence[dict]) -> pd.DataFrame:
    """Rows of generation, kind, quantity, material, labels: mean error over the fits, its standard deviation and their number.

    reports: errors.json of each generation. Fits of one generation to the same number of labels differ in their seed and,
    below the whole set, in the labels drawn: sd is the error bar (empty where there is one fit).
    """
    values: dict[tuple, list[float]] = {}
    for report in reports:
        for fit in report["fits"]:
            for material, row in fit["errors"].items():
                for quantity in QUANTITIES:
                    if quantity in row:
                        place = (report["generation"], fit["kind"], quantity, material, fit["labels"])
                        values.setdefault(place, []).append(row[quantity])
    columns = ["generation", "kind", "quantity", "material", "labels", "error", "sd", "fits"]
    return pd.DataFrame(
        [
            [*place, np.mean(errors), np.std(errors, ddof=1) if len(errors) > 1 else np.nan, len(errors)]
            for place, errors in sorted(values.items())
        ],
        columns=columns,
    )


def draw(rows: pd.DataFrame, file: Path) -> None:
    """One panel per quantity, one line per material; bars are standard deviations over fits, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "learning curve"
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter, ScalarFormatter

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    present = [quantity for quantity in QUANTITIES if (rows["quantity"] == quantity).any()]
    figure, axes = pyplot.subplots(
        1, max(len(present), 1), figsize=(4 * max(len(present), 1), 3.4), squeeze=False, layout="constrained"
    )
    for axis, quantity in zip(axes[0], present):
        for material, own in rows[rows["quantity"] == quantity].groupby("material"):
            own = own.sort_values("labels")
            axis.errorbar(
                own["labels"], own["error"], yerr=own["sd"].fillna(0), marker="o", capsize=3, label=material
            )
        axis.set(xscale="log", yscale="log", xlabel="labels fitted to", ylabel=QUANTITIES[quantity])
        ticks = sorted(set(rows.loc[rows["quantity"] == quantity, "labels"]))
        axis.set_xticks(ticks)
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(plain)
        axis.yaxis.set_minor_formatter(plain)
        axis.legend(fontsize="small")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
