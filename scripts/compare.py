"""Two campaigns side by side, matched by candidate and temperature: verdicts, diffusivities, intensities, ranks, ratios B/A."""

import argparse
from pathlib import Path

import pandas as pd
from arguments import read_json
from ionraman.comparison import compare
from ionraman.ranking import read_ranking
from selection import campaign_folder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("A", help="name of a campaign, or its folder")
parser.add_argument("B", help="name of another")
parser.add_argument("--output", type=Path, help="CSV file (default: results/compare_A_B.csv)")
arguments = parser.parse_args()

folders = [campaign_folder(name) for name in (arguments.A, arguments.B)]
for folder in folders:
    if not (folder / "ranking.csv").exists():
        raise SystemExit(f"{folder} holds no ranking.csv: this campaign has not ended yet.")
records = [read_json(folder / "campaign.json") for folder in folders]
table = compare(*(read_ranking(folder / "ranking.csv") for folder in folders))
output = arguments.output or Path("results") / f"compare_{folders[0].name}_{folders[1].name}.csv"
table.to_csv(output, index=False)

for side, folder, record in zip("AB", folders, records, strict=True):
    models = ", ".join(
        f"{model['role']} {model['name']} ({model['sha256'][:8]})" for model in record["models"]
    )
    runs = record["runs"]
    lengths = sorted({(run["replicas"], run["production_ps"]) for run in runs})
    print(f"{side}: {folder}, {models}; " + ", ".join(f"{count} x {ps:g} ps" for count, ps in lengths))


def cell(value, form: str = "{:.3g}") -> str:
    return "" if value is None or pd.isna(value) else form.format(value)


def words(value) -> str:
    return "" if value is None or pd.isna(value) else value


def interval(low, high) -> str:
    return "" if pd.isna(high) else f"{cell(0 if pd.isna(low) else low)}..{cell(high)}"


def agreement(value) -> str:
    return "" if value is None or pd.isna(value) else "yes" if value else "NO"


rows = [("candidate", "T/K", "", "rank", "verdict", "D/cm2 s-1", "I_low/A3", "interval", "R_low", "agree")]
for row in table.to_dict("records"):
    for side in "AB":
        get = {key[:-2]: value for key, value in row.items() if key.endswith(f"_{side}")}
        rows.append((
            row["candidate"] if side == "A" else "", f"{row['temperature_K']:g}" if side == "A" else "", side,
            cell(get["rank"], "{:.0f}"), words(get["verdict"]) or words(get["status"]) or "-", interval(get["D_low"], get["D_high"]),
            cell(get["I_low_A3"]), interval(get["I_low_low"], get["I_low_high"]), cell(get["R_low"]), "",
        ))  # fmt: skip
    rows.append((
        "", "", "B/A", "", row["note"], cell(row["D_ratio"]) + (f" ({interval(row['D_ratio_low'], row['D_ratio_high'])})" if not pd.isna(row["D_ratio"]) else ""),
        cell(row["I_ratio"]), interval(row["I_ratio_low"], row["I_ratio_high"]), "",
        " ".join(f"{name} {answer}" for name in "DIR" if (answer := agreement(row[f"{name}_agree"]))),
    ))  # fmt: skip
widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
for row in rows:
    print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
judged = table[["D_agree", "I_agree"]].astype("boolean")
for name, what in (("D_agree", "diffusivity"), ("I_agree", "I_low")):
    known = judged[name].dropna()
    print(f"{what}: {int(known.sum())} of {len(known)} agree within the intervals.")
print(f"Table: {output}")
