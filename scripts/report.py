"""Self-contained HTML report of a campaign."""

import argparse
from pathlib import Path

from arguments import limit_threads, read_json, run_folder


def write(folder: Path) -> None:
    from ionraman.ranking import read_ranking
    from ionraman.report import write_report

    campaign = read_json(folder / "campaign.json")
    paths = [
        run_folder(folder, (run["candidate"], run["temperature_K"])) / "summary.json"
        for run in campaign["runs"]
    ]
    summaries = [read_json(path) for path in paths if path.exists()]
    write_report(
        read_ranking(folder / "ranking.csv"), summaries, folder / "runs", folder / "report.html", campaign
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    limit_threads(1)
    write(parser.parse_args().folder)
