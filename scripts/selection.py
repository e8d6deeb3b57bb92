"""What the commands share: which campaign, which of its runs, a launch afterwards."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from pathlib import Path

from arguments import read_json
from ionraman.campaign import Campaign, load_campaign
from ionraman.settings import ConfigError
from layers import launch_config

ROOT = Path(__file__).resolve().parent.parent


def command_parser(description: str, launches: bool = False) -> argparse.ArgumentParser:
    """Options that say which campaign is meant; `launches` for commands that end with a launch."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--configfile",
        type=Path,
        action="append",
        default=[],
        help="overlay of the campaign, as for a launch",
    )
    if launches:
        parser.add_argument("--profile", help="where the jobs of the launch run (default: profiles/local)")
        parser.add_argument("--no-launch", action="store_true", help="leave the launch to you")
    return parser


def config_files(overlays: list[Path]) -> list[Path]:
    return [Path("config/config.yaml"), *overlays]


def launch_arguments(arguments: argparse.Namespace) -> list[str]:
    """The options of a launch of the same campaign."""
    overlays = ["--configfile", *map(str, arguments.configfile)] if arguments.configfile else []
    profile = getattr(arguments, "profile", None)
    return [*overlays, *(["--profile", profile] if profile else [])]


def configured(arguments: argparse.Namespace) -> Campaign:
    """The campaign of the configuration, that of the profile included; problems end the program."""
    try:
        return load_campaign(launch_config(launch_arguments(arguments)), Path.cwd())
    except ConfigError as error:
        raise SystemExit(str(error)) from None


def launched(folder: Path) -> dict:
    """campaign.json of a campaign that was launched before."""
    file = folder / "campaign.json"
    if not file.exists():
        raise SystemExit(f"{folder} holds no campaign.json: this campaign was not launched yet.")
    return read_json(file)


def campaign_folder(name: str | None) -> Path:
    """Folder of the campaign of that name or path; the latest without a name."""
    if name is None:
        found = sorted(Path("results").glob("*/campaign.json"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise SystemExit("There is no campaign in results yet: start one with scripts/campaign.")
        return found[-1].parent
    folder = Path(name) if Path(name).is_dir() else Path("results") / name
    if not (folder / "campaign.json").exists():
        known = ", ".join(path.parent.name for path in Path("results").glob("*/campaign.json")) or "none"
        raise SystemExit(f"{folder} holds no campaign.json; campaigns: {known}.")
    return folder


def chosen_runs(runs: list[dict], names: list[str]) -> list[dict]:
    """Runs of campaign.json that the names, 'candidate' or 'candidate:temperature', mean; unknown ones end the program."""
    keys = {f"{run['candidate']}:{run['temperature_K']:g}": run for run in runs}
    found: dict[str, dict] = {}
    for name in names:
        mine = {key: run for key, run in keys.items() if name in (key, run["candidate"])}
        if not mine:
            near = difflib.get_close_matches(name, [*keys, *(run["candidate"] for run in runs)], n=1)
            raise SystemExit(
                f"{name!r} is no run of this campaign{f'; did you mean {near[0]}?' if near else '.'} Names are those of "
                "the table, NAME or NAME:TEMPERATURE; scripts/campaign status lists them."
            )
        found |= mine
    return list(found.values())


def refuse_if_locked() -> None:
    """End the program while Snakemake works here: it would not notice what is changed beneath it."""
    locks = Path(".snakemake/locks")
    if locks.is_dir() and any(locks.iterdir()):
        raise SystemExit(
            "A launch is at work in this folder (or was killed): wait until it ends; after a kill, scripts/campaign --unlock."
        )


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `yes`; anything but y ends the program, and so does the lack of a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise SystemExit("Nothing was done: add --yes to go ahead without a question.")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise SystemExit("Nothing was done.")


def launch(arguments: argparse.Namespace) -> None:
    """Become scripts/run.py for the same campaign, unless --no-launch."""
    options = launch_arguments(arguments)
    if arguments.no_launch:
        print(" ".join(["To go on: scripts/campaign", *options]))
        return
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "scripts/run.py", *options])
