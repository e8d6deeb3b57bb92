"""Try runs again that failed, from their last checkpoint; --from-scratch computes any run anew."""

from pathlib import Path

from ionraman.rerun import forget, plan_attempts
from ionraman.status import run_status
from ionraman.survey import idle_runs
from selection import chosen_runs, command_parser, configured, confirm, launch, launched, refuse_if_locked

parser = command_parser(__doc__, launches=True)
parser.add_argument("names", nargs="*", metavar="NAME", help="candidate, or candidate:temperature")
parser.add_argument("--failed", action="store_true", help="all runs that failed")
parser.add_argument(
    "--from-scratch", action="store_true", help="remove trajectory and results and start anew"
)
parser.add_argument("--yes", action="store_true", help="do not ask before something is removed")
arguments = parser.parse_args()
if bool(arguments.names) == arguments.failed:
    parser.error("give the names of runs, or --failed")

campaign = configured(arguments)
record = launched(campaign.folder)
refuse_if_locked()
print(f"{campaign.folder}", flush=True)
if arguments.failed:
    chosen = [run for run in record["runs"] if run_status(campaign.folder, run).status == "failed"]
    if not chosen:
        raise SystemExit("Nothing failed.")
else:
    chosen = chosen_runs(record["runs"], arguments.names)
attempts, refused = plan_attempts(campaign.folder, chosen, arguments.from_scratch)
print("\n".join(attempt.words for attempt in attempts))
if refused:
    raise SystemExit("\n".join([*refused, "Nothing was changed."]))
gone = {attempt.run for attempt in attempts} - set(campaign.runs())
if gone:
    raise SystemExit(
        f"No longer in the table or selected: {', '.join(f'{n}:{T:g}' for n, T in sorted(gone))}."
    )
if arguments.from_scratch:
    confirm("Remove these and start anew?", arguments.yes)
idle = idle_runs(campaign, Path()) if arguments.from_scratch else ()
forget(campaign, campaign.folder, attempts, arguments.from_scratch, idle)
launch(arguments)
