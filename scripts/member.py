"""Seal of one member of a pack: its own record, or failure where it has none."""

import argparse
import sys
from pathlib import Path

from arguments import read_json, write_json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("pack", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--member", required=True)
arguments = parser.parse_args()

name, _, temperature = arguments.member.rpartition(":")
record = read_json(arguments.pack).get(f"{name}:{float(temperature):g}")
if record is None or record["status"] == "failed":
    sys.exit(f"{arguments.member} did not finish: {record['reason'] if record else 'it is not in the pack.'}")
write_json(arguments.output, record)
