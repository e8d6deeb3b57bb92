"""Build the simulation cell of one candidate; what is wrong with it is its status."""

import argparse
from pathlib import Path

from arguments import settings, write_json
from ionraman.structures import StructureInvalid, build

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file")
parser.add_argument("output", type=Path)
parser.add_argument("--mobile", required=True)
parser.add_argument("--carriers", default="")
parser.add_argument("--settings", nargs="+", required=True)
arguments = parser.parse_args()

try:
    built = build(
        arguments.file, mobile=arguments.mobile, carriers=arguments.carriers, **settings(arguments.settings)
    )
    atoms = {"numbers": built.atoms.numbers.tolist(), "positions_A": built.atoms.positions.tolist()}
    record = built.record | {"atoms": atoms | {"cell_A": built.atoms.cell.array.tolist()}}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    built.atoms.write(arguments.output.with_suffix(".cif"))
except StructureInvalid as error:
    record = {
        "status": "invalid",
        "reason": str(error),
        "source_file": arguments.file,
        "mobile": arguments.mobile,
    }
write_json(arguments.output, record)
