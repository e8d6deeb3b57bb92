"""Launch Snakemake for a campaign, show where it stands, and print the ranked table at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from arguments import read_json
from ionraman.status import run_status
from launches import Launch, local_jobs
from layers import launch_config

QUIET = {
    "-n",
    "--dry-run",
    "--dryrun",
    "--unlock",
    "--lint",
    "--dag",
    "--rulegraph",
    "--version",
    "--help",
    "-h",
    "--summary",
}
EVERY_S = 15
SURVEYED_RUNS = 50
"""Longest table whose cost is told at every launch."""
COLUMNS = ["rank", "candidate", "temperature_K", "status", "verdict", "D_low", "D_high", "nu1_cm", "I_low_A3", "I_low_low",
           "I_low_high", "R_low", "robust", "trusted"]  # fmt: skip


def command(arguments: list[str]) -> list[str]:
    profile = (
        []
        if any(word.split("=")[0] in ("--profile", "--workflow-profile") for word in arguments)
        else ["--profile", "profiles/local"]
    )
    return [sys.executable, "-m", "snakemake", *profile, *arguments]


def campaign_folder(log: str) -> Path | None:
    found = re.search(r"^Campaign folder: (.+)$", log, re.MULTILINE)
    return Path(found.group(1)) if found else None


def progress_lines(folder: Path) -> list[str]:
    """Stages with counts, then one line for each run that is at work."""
    if not (folder / "campaign.json").exists():
        return []
    states = [run_status(folder, run) for run in read_json(folder / "campaign.json")["runs"]]
    counts = Counter("finished" if s.stage == "done" else f"{s.stage} {s.status}" for s in states)
    lines = ["  ".join(f"{name}: {count}" for name, count in sorted(counts.items()))]
    for state in states:
        if state.status == "running" and state.stage != "done":
            left = f", {state.left_s / 60:.0f} min left" if state.left_s is not None else ""
            lines.append(
                f"    {state.candidate} {state.temperature_K:g} K: {state.stage} {state.progress:.0%} ({state.reason}{left})"
            )
    return lines


def watch(process: subprocess.Popen, log: Path, launch: Launch) -> Path | None:
    """Print progress and show signs of life until Snakemake ends; the campaign's folder."""
    folder, shown, last = None, [], time.monotonic() - EVERY_S + 4
    while process.poll() is None:
        time.sleep(0.5)
        if time.monotonic() - last < EVERY_S:
            continue
        last = time.monotonic()
        launch.beat()
        folder = folder or campaign_folder(log.read_text(errors="replace"))
        lines = progress_lines(folder) if folder else []
        if lines and lines != shown:
            print(time.strftime("%H:%M:%S"), *lines, sep=" " if len(lines) == 1 else "\n  ", flush=True)
            shown = lines
    return folder or campaign_folder(log.read_text(errors="replace"))


def expectation(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What a launch costs, in a sentence or none, and the limits of `budget` that it would exceed.

    Every cell is built for it, so a long table is surveyed only where there is a budget. A wrong configuration is left to Snakemake,
    which says what is wrong.
    """
    from ionraman.campaign import load_campaign
    from ionraman.settings import ConfigError, load_settings

    try:
        config = launch_config(arguments)
        budget = load_settings(config)[0].budget
        campaign = load_campaign(config, Path.cwd())
    except ConfigError:
        return [], []
    limited = budget.gpu_hours is not None or budget.disk_GB is not None
    if not limited and len(campaign.runs()) > SURVEYED_RUNS:
        return [], []
    from ionraman.survey import over_budget, survey

    found = survey(campaign, Path.cwd())
    left_h = None if found.total_h is None else found.total_h - sum(found.spent_h.values())
    time_left = "jobs of unknown length"
    if left_h is not None:
        time_left = f"{duration(left_h)} of jobs on the {'GPU' if found.device == 'cuda' else 'CPU'}"
        side_by_side = min(local_jobs(arguments, campaign.settings.compute.threads), sum(h != 0 for h in found.hours.values()))
        if side_by_side > 1:
            time_left += f", {duration(left_h / side_by_side)} with {side_by_side} at a time"
    sentence = (
        f"{len(campaign.candidates)} candidates, {len(found.rows)} runs: about {time_left}; {found.bytes / 1e9:.2g} GB on disk when "
        "finished. scripts/campaign check tells it run by run."
    )
    return [sentence], over_budget(campaign, found)


def duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 2 else f"{60 * hours:.0f} min"


def main(arguments: list[str]) -> int:
    if QUIET & set(arguments):
        return subprocess.run(command(arguments)).returncode
    expected, problems = expectation(arguments)
    print(*expected, sep="\n", flush=True)
    if problems:
        print(
            "\n".join(
                [*problems, "Nothing was launched; scripts/campaign check shows the estimate of each run."]
            )
        )
        return 1
    Path("results").mkdir(exist_ok=True)
    log = Path("results") / time.strftime("snakemake-%Y%m%d-%H%M%S.log")
    started = time.monotonic()
    launch = Launch(arguments, log)
    print(
        f"Snakemake writes to {log}. Ctrl-C stops the jobs; the same command goes on from their checkpoints.",
        flush=True,
    )
    with open(log, "w") as file:
        process = subprocess.Popen(
            command([*arguments, *launch.arguments()]),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | launch.environment(),
        )
        launch.follows(process.pid)
        signal.signal(signal.SIGINT, lambda *_: None)  # Snakemake gets it too and ends its jobs
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        folder = watch(process, log, launch)
    launch.end()
    text = log.read_text(errors="replace")
    if process.returncode and (folder is None or "WorkflowError" in text or "LockException" in text):
        print(error_text(text))
    table = folder and folder / "ranking.csv"
    fresh = table and table.exists() and table.stat().st_mtime > time.time() - (time.monotonic() - started)
    if folder and not fresh:
        print("\n".join(progress_lines(folder)))
    if fresh or table and table.exists() and process.returncode == 0:  # a launch of single targets makes none
        show(folder)
    minutes = (time.monotonic() - started) / 60
    print(
        f"{'Finished' if process.returncode == 0 else 'Ended with failures'} after {minutes:.1f} min.",
        end=" ",
    )
    if table and table.exists():
        print(f"Table: {table}  Report: {folder}/report.html", end="")
    print()
    if process.returncode:
        print(f"What failed: scripts/campaign status; the whole log: {log}. The same command tries again.")
    return process.returncode


def error_text(log: str) -> str:
    """The part of Snakemake's log that says what is wrong."""
    for mark in ("WorkflowError", "LockException", "Error"):
        if mark in log:
            return log[log.index(mark) :][:8000].rstrip()
    return log[-4000:]


def show(folder: Path) -> None:
    from ionraman.ranking import read_ranking

    table = read_ranking(folder / "ranking.csv")
    reasons = table[table["status"] != "complete"]
    print(
        table[[c for c in COLUMNS if c in table]].to_string(
            index=False, na_rep="", float_format="{:.3g}".format
        )
    )
    for _, row in reasons.iterrows():
        print(f"{row['candidate']} {row['temperature_K']:g} K: {row['status']}: {row['reason']}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
