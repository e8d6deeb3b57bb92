"""What the programs of the rules share: members, settings and outcomes on the command line."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from ionraman import cancellation
from ionraman.attempts import Attempt, recorded, sentence
from ionraman.lease import Lease, held
from ionraman.trajectory import CorruptSegment, read_json, write_json


def member(text: str) -> tuple[str, float]:
    """'candidate:temperature' as (candidate, temperature in K)."""
    name, _, temperature = text.rpartition(":")
    return name, float(temperature)


def pack_parser(description: str) -> argparse.ArgumentParser:
    """Options of the programs that carry a pack through: members, settings, hardware and model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path, required=True, help="of the campaign")
    parser.add_argument("--members", nargs="+", type=member, required=True)
    parser.add_argument("--settings", nargs="+", required=True)
    parser.add_argument("--compute", nargs="+", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--sha256", required=True)
    return parser


def training_parser(description: str) -> argparse.ArgumentParser:
    """Options of the programs of a training."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path, required=True, help="of the training")
    parser.add_argument("--root", type=Path, default=Path("."), help="of the project")
    parser.add_argument("--digest", help="of the settings that matter here; it is there to be compared by Snakemake")
    return parser


def read_frames(file: Path) -> list:
    """Configurations of an extended XYZ file; none of an empty one."""
    import ase.io

    return ase.io.read(file, ":", format="extxyz") if file.stat().st_size else []


def run_folder(folder: Path, run: tuple[str, float]) -> Path:
    return folder / "runs" / run[0] / f"{run[1]:g}K"


def settings(pairs: list[str]) -> dict:
    """['a=1', 'b=none'] as a dict of numbers, booleans, None and text."""
    words = {"True": True, "False": False, "None": None}
    values = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        try:
            values[key] = (
                words[text] if text in words else float(text) if set(text) & set(".en") else int(text)
            )
        except ValueError:
            values[key] = text
    return values


def limit_threads(count: int) -> None:
    """Keep the numerical libraries to `count` threads; called before they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)


def recording_failure(main: Callable[[], None], folders: list[Path], stage: str) -> None:
    """Run `main`; if it fails, leave failure.json in each run's folder for the table and `status`, and exit 1."""
    for folder in folders:
        (folder / "failure.json").unlink(missing_ok=True)
    try:
        main()
    except Exception as error:
        traceback.print_exc()
        if isinstance(error, CorruptSegment):
            discard_seals(error.path)
        for folder in folders:
            try:
                write_json(folder / "failure.json", {"stage": stage, "reason": sentence(error)})
            except OSError as full:
                print(f"{folder}/failure.json could not be written: {full}", file=sys.stderr)
        sys.exit(1)


def discard_seals(segment: Path) -> None:
    """Delete the seals of the stage that wrote a damaged segment: the next launch then repairs it."""
    run = segment.parent.parent
    folder, stage = run.parents[2], {"trajectory": "dynamics"}.get(segment.parent.name, segment.parent.name)
    for entry in read_json(folder / "campaign.json")["runs"]:
        if run_folder(folder, (entry["candidate"], entry["temperature_K"])) == run:
            (folder / "packs" / f"{entry['pack']}.{stage}.json").unlink(missing_ok=True)
    for name in (stage, "summary"):  # without the summary, Snakemake would not miss the seals
        (run / f"{name}.json").unlink(missing_ok=True)
    print(f"{segment} is computed again when the campaign is launched again.", flush=True)


def run_pack(main: Callable[[Lease, Attempt], None], arguments: argparse.Namespace, pack: str, stage: str) -> None:
    """`recording_failure` for a pack, under its lease and with a record of the attempt."""
    folder = arguments.folder / "packs" / pack

    def attempted() -> None:
        with recorded(folder, stage) as attempt:
            main(lease, attempt)

    cancellation.watch()
    with held(folder) as lease:
        recording_failure(attempted, [run_folder(arguments.folder, run) for run in arguments.members], stage)


__all__ = [
    "Attempt",
    "Lease",
    "limit_threads",
    "member",
    "pack_parser",
    "read_frames",
    "read_json",
    "recording_failure",
    "run_folder",
    "run_pack",
    "settings",
    "training_parser",
    "write_json",
]
