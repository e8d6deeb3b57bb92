"""All records of one run in one file: what the ranking and the report need to know."""

import argparse
from pathlib import Path

from arguments import member, read_json, write_json

parser = argparse.ArgumentParser(description=__doc__)
for name in ("structure", "dynamics", "transport", "marker", "output"):
    parser.add_argument(name, type=Path)
parser.add_argument("--member", type=member, required=True)
parser.add_argument("--tags", default="")
parser.add_argument("--sigma300-S-cm", default="None")
parser.add_argument("--sigma-source", default="")
parser.add_argument("--gap-eV", default="None")
arguments = parser.parse_args()

records = {
    name: read_json(getattr(arguments, name)) for name in ("structure", "dynamics", "transport", "marker")
}
records["structure"].pop("atoms", None)
first_bad = next((record for record in records.values() if record["status"] != "complete"), records["marker"])
records["structure"] |= {
    "tags": [tag for tag in arguments.tags.split(";") if tag],
    "sigma300_S_cm": None if arguments.sigma300_S_cm == "None" else float(arguments.sigma300_S_cm),
    "sigma_source": arguments.sigma_source,
    "gap_eV": None if arguments.gap_eV == "None" else float(arguments.gap_eV),
}
name, temperature = arguments.member
write_json(
    arguments.output,
    {
        "candidate": name,
        "formula": records["structure"].get("formula", ""),
        "temperature_K": temperature,
        "status": first_bad["status"],
        "reason": first_bad["reason"],
        "alpha_model": records["marker"].get("alpha_model"),
        "alpha_model_sha256": records["marker"].get("alpha_model_sha256"),
        **records,
    },
)
