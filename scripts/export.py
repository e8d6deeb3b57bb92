"""One archive for a paper: ranking, spectra with units, figures, configuration, models, seeds, versions, methods, references."""

import argparse
import sys
from pathlib import Path

from arguments import limit_threads, read_json
from ionraman.campaign import read_config
from ionraman.settings import load_settings
from selection import campaign_folder, chosen_runs, config_files

limit_threads(1)
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("campaign", nargs="?", help="name of the campaign, or its folder (default: the latest)")
parser.add_argument(
    "--configfile", type=Path, action="append", default=[], help="its overlay (default: found by its name)"
)
parser.add_argument(
    "--trajectories",
    nargs="+",
    metavar="NAME",
    default=[],
    help="add these as extxyz: candidate, or candidate:temperature",
)
parser.add_argument("--output", type=Path, help="default: results/CAMPAIGN.zip")


def overlays_of(folder: Path) -> list[Path]:
    """The overlay in config that names the campaign; none where config.yaml does."""
    if read_config(config_files([])).get("campaign") == folder.name:
        return []
    for file in sorted(Path("config").glob("*.yaml")):
        if file.name != "config.yaml" and read_config([file]).get("campaign") == folder.name:
            return [file]
    raise SystemExit(
        f"No file in config names the campaign {folder.name!r}: give its overlay, --configfile FILE."
    )


if __name__ == "__main__":
    arguments = parser.parse_args()
    from ionraman.export import export

    folder = campaign_folder(arguments.campaign)
    if not (folder / "ranking.csv").exists():
        raise SystemExit(f"{folder} holds no ranking.csv: this campaign has not ended yet.")
    overlays = arguments.configfile or overlays_of(folder)
    settings, problems = load_settings(read_config(config_files(overlays)))
    if problems:
        raise SystemExit("\n".join(problems))
    runs = read_json(folder / "campaign.json")["runs"]
    chosen = chosen_runs(runs, arguments.trajectories) if arguments.trajectories else []
    target = arguments.output or folder.with_suffix(".zip")
    wrong = export(folder, Path.cwd(), config_files(overlays), settings.model_dump(), target, chosen)
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
