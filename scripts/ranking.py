"""Ranked table of a campaign: every run of campaign.json, with its reason where it has no summary."""

import argparse
from pathlib import Path

from arguments import limit_threads, read_json, run_folder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--key", required=True)
parser.add_argument("--reference-temperature-K", type=float, required=True)
parser.add_argument(
    "--partial", action="store_true", help="runs may lack a summary; write the report as well"
)
arguments = parser.parse_args()
limit_threads(1)

from ionraman.ranking import rank
from ionraman.status import run_status
from ionraman.trust import verdict


def card(path: Path) -> dict | None:
    return read_json(path / "card.json") if (path / "card.json").exists() else None


summaries, missing = [], []
campaign = read_json(arguments.folder / "campaign.json")
cards = {model["role"]: card(Path(model["path"])) for model in campaign["models"]}
for run in campaign["runs"]:
    path = run_folder(arguments.folder, (run["candidate"], run["temperature_K"])) / "summary.json"
    if path.exists():
        summary = read_json(path)
        if summary.get("formula"):
            trusted, reason = verdict(summary["formula"], cards)
            summary["trust"] = {"trusted": trusted, "reason": reason}
        summaries.append(summary)
    elif arguments.partial:
        status = run_status(arguments.folder, run)
        keys = ("candidate", "temperature_K", "status", "reason")
        missing.append({key: getattr(status, key) for key in keys})
    else:
        raise SystemExit(f"{path} is missing.")
table = rank(
    summaries, reference_temperature_K=arguments.reference_temperature_K, key=arguments.key, missing=missing
)
partial = arguments.folder / ".ranking.csv"
table.to_csv(partial, index=False)
partial.replace(arguments.folder / "ranking.csv")
if arguments.partial:
    from report import write

    write(arguments.folder)
