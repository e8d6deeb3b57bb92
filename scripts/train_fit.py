"""One piece of one fit: a force field (mace_run_train) or a member of the polarizability ensemble."""

import sys
import time
from pathlib import Path

from arguments import limit_threads, read_json, settings, training_parser, write_json

parser = training_parser(__doc__)
parser.add_argument("output", type=Path)
parser.add_argument("--previous", type=Path, help="seal of the piece before")
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--kind", choices=("force", "alpha"), required=True)
parser.add_argument(
    "--share", type=float, default=1.0, help="of the training frames, drawn by the member's number"
)
parser.add_argument("--member", type=int, required=True)
parser.add_argument("--last", action="store_true", help="no piece follows: not finished is a failure")
parser.add_argument("--minutes", type=float, default=float("inf"), help="that the job may take")
parser.add_argument("--compute", nargs="+", required=True)
arguments = parser.parse_args()
compute = settings(arguments.compute)
limit_threads(compute["threads"])


def main() -> None:
    started = time.monotonic()
    if arguments.previous and read_json(arguments.previous)["status"] == "complete":
        write_json(arguments.output, read_json(arguments.previous))
        return
    import torch
    from ionraman import potentials
    from ionraman.training import fits
    from ionraman.training.forcefield import FitFailed
    from ionraman.training.polarizability import Unfinished
    from ionraman.training.record import read_record

    torch.set_num_threads(compute["threads"])
    record = read_record(arguments.folder)
    # What remains is for the start of the program and the end of an epoch.
    deadline = started + 60 * min(record.training.fit.piece_minutes, 0.9 * arguments.minutes)
    device = str(potentials.select_device(compute["device"]))
    run = fits.Fit(
        arguments.kind,
        arguments.data,
        arguments.folder / "fits",
        arguments.share,
        arguments.member,
        device,
        arguments.root,
    )
    try:
        model = run.go_on(record, deadline, lambda line: print(line, flush=True))
        seal = {"status": "complete", "model": str(model)}
    except Unfinished as error:
        seal = {"status": "unfinished", "reason": str(error)}
        if arguments.last:
            sys.exit(
                f"Error: the fit is not finished ({error}) after its last piece; the same command goes on, or raise "
                "training.fit.pieces."
            )
    except FitFailed as error:
        sys.exit(f"Error: {error}")
    write_json(arguments.output, seal)


main()
