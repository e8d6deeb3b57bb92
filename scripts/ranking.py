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

from ionraman.ranking import rank  # noqa: E402
from ionraman.status import run_status  # noqa: E402

summaries, missing = [], []
campaign = read_json(arguments.folder / "campaign.json")
for run in campaign["runs"]:
    path = run_folder(arguments.folder, (run["candidate"], run["temperature_K"])) / "summary.json"
    if path.exists():
        summaries.append(read_json(path))
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
