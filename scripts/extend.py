"""Make runs longer: their row of the candidate table gets an override of production_ps, and a launch computes the new frames only."""

from pathlib import Path

from ionraman.campaign import load_campaign
from ionraman.cleaning import is_cleaned, run_folder
from ionraman.overrides import set_override
from ionraman.packs import checkpoint_files
from ionraman.rerun import RESULTS
from ionraman.settings import ConfigError
from ionraman.status import run_status
from ionraman.trajectory import write_atomically
from layers import launch_config
from selection import (
    chosen_runs,
    command_parser,
    configured,
    launch,
    launch_arguments,
    launched,
    refuse_if_locked,
)

parser = command_parser(__doc__, launches=True)
parser.add_argument("names", nargs="+", metavar="NAME", help="candidate of the table")
parser.add_argument("--ps", type=float, required=True, help="picoseconds to add to every replica")
arguments = parser.parse_args()
if not 0 < arguments.ps < 1e9:
    parser.error(f"--ps: found {arguments.ps:g}; allowed: a number above 0")

campaign = configured(arguments)
folder, table = campaign.folder, Path(campaign.settings.candidates)
record = launched(folder)
refuse_if_locked()
for name in arguments.names:
    if name not in [candidate.name for candidate in campaign.candidates]:
        extra = " (the length is a setting of a row, for all its temperatures)" if ":" in name else ""
        raise SystemExit(f"{name!r} is no selected candidate of {table}{extra}.")

text, problems, lines = table.read_bytes().decode("utf-8"), [], []
runs = {name: chosen_runs(record["runs"], [name]) for name in dict.fromkeys(arguments.names)}
for name, mine in runs.items():
    for run in mine:
        status = run_status(folder, run)
        label = f"{name} {run['temperature_K']:g} K"
        pack = folder / "packs" / run["pack"]
        if status.status in RESULTS:
            problems.append(
                f"{label} is {status.status}: a longer run would not change that ({status.reason})"
            )
        elif status.stage == "done" and (is_cleaned(run_folder(folder, run)) or not checkpoint_files(pack)):
            problems.append(
                f"{label}: its trajectory or checkpoint was removed by scripts/campaign clean, so it cannot go on. Set "
                "production_ps in its row yourself and use scripts/campaign rerun --from-scratch."
            )
    now = campaign.setting(name, "dynamics.production_ps")
    text = set_override(text, name, "dynamics.production_ps", f"{now + arguments.ps:.9g}")
    lines.append(f"{name}: production_ps {now:g} -> {now + arguments.ps:.9g} (its row in {table}, overrides)")
if problems:
    raise SystemExit("\n".join([*problems, "Nothing was changed."]))
print("\n".join(lines))
former = table.read_bytes()
write_atomically(table, text.encode("utf-8"))
try:  # whatever is wrong with the new table: the old one comes back
    load_campaign(launch_config(launch_arguments(arguments)), Path.cwd())
except ConfigError as error:
    write_atomically(table, former)
    raise SystemExit(f"{error}\nNothing was changed.") from None
launch(arguments)
