"""Candidate, stage, progress, state, last error and log of every run of a campaign, from its files, and its jobs in SLURM."""

import argparse
from pathlib import Path

from arguments import read_json
from ionraman.queue import campaign_jobs
from ionraman.status import run_status
from selection import campaign_folder


def lines(folder: Path) -> list[str]:
    rows = [("candidate", "T/K", "stage", "done", "state", "left", "job", "reason")]
    logs, (jobs, problem) = [], campaign_jobs(folder)
    by_task = {job.task: job for job in jobs}
    for run in read_json(folder / "campaign.json")["runs"]:
        status = run_status(folder, run)
        job = by_task.get(f"{status.stage} {run['pack']}")
        left = f"{status.left_s / 60:.0f} min" if status.left_s is not None else ""
        rows.append(
            (
                status.candidate,
                f"{status.temperature_K:g}",
                status.stage,
                f"{status.progress:.0%}",
                status.status,
                left,
                f"{job.number} {job.state.lower()}" if job else "",
                status.reason,
            )
        )
        if status.status == "failed" and status.log:
            logs.append(f"log of {status.candidate} {status.temperature_K:g} K: {status.log}")
    if not jobs:
        rows = [(*row[:6], row[7]) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    table = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip()
        for row in rows
    ]
    queue = [
        f"SLURM job {job.number}: {job.task}, {job.state.lower()} {job.elapsed} of {job.limit}, {job.where}"
        for job in jobs
    ]
    return table + logs + queue + ([problem] if problem else [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "campaign", nargs="?", help="name of the campaign, or its folder (default: the latest)"
    )
    folder = campaign_folder(parser.parse_args().campaign)
    print(f"{folder}")
    print("\n".join(lines(folder)))
