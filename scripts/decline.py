"""The seal of a pack whose members get no trajectory, with the reason of each."""

import argparse
from pathlib import Path

from arguments import member, read_json, recording_failure, run_folder, write_json
from ionraman.refusals import refusal
from ionraman.survey import SURVEY

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("output", type=Path)
parser.add_argument("--folder", type=Path, required=True)
parser.add_argument("--members", nargs="+", type=member, required=True)
parser.add_argument("--timestep-fs", type=float, required=True)
parser.add_argument("--elements", nargs="*", required=True)
arguments = parser.parse_args()


def main() -> None:
    records = {}
    for name, temperature in arguments.members:
        structure = read_json(arguments.folder / "structures" / name / "structure.json")
        record = refusal(structure, arguments.timestep_fs, arguments.elements)
        if record is None:
            # Without the survey the next launch takes it for one that runs.
            (arguments.folder / SURVEY).unlink(missing_ok=True)
            raise RuntimeError(f"{name} can be computed after all; the survey that said no is removed. Launch again.")
        records[f"{name}:{temperature:g}"] = record
    write_json(arguments.output, records)


recording_failure(main, [run_folder(arguments.folder, run) for run in arguments.members], "dynamics")
