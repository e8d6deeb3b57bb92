"""Free disk: checkpoints of finished runs; --trajectories also trajectories and polarizabilities, but no table or spectrum.

A run without a checkpoint is not lengthened any more, and one without a trajectory not analysed anew: both start from scratch.
"""

from ionraman.cleaning import clean, plan_cleaning
from selection import chosen_runs, command_parser, configured, confirm, launched, refuse_if_locked

parser = command_parser(__doc__)
parser.add_argument(
    "names", nargs="*", metavar="NAME", help="candidate, or candidate:temperature; all without"
)
parser.add_argument("--trajectories", action="store_true", help="segments and polarizabilities as well")
parser.add_argument("--yes", action="store_true", help="do not ask")
arguments = parser.parse_args()

folder = configured(arguments).folder
record = launched(folder)
refuse_if_locked()
chosen = chosen_runs(record["runs"], arguments.names) if arguments.names else record["runs"]
plan = plan_cleaning(folder, record["runs"], chosen, arguments.trajectories)
for why in plan.staying:
    print(f"stays: {why}")
if not plan.files:
    print(f"{folder}: nothing to free.")
    raise SystemExit
checkpoints = [path for path in plan.files if path.name.startswith("checkpoint")]
print(
    f"{folder}: frees {plan.bytes:,} bytes: {len(checkpoints)} checkpoints, "
    f"{len(plan.files) - len(checkpoints)} segments of {len(plan.trajectories)} runs."
)
confirm("Remove them?", arguments.yes)
clean(plan)
print("Done. Tables, spectra and records are kept; a launch has nothing to compute.")
