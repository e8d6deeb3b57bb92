"""Polarizability along the trajectories of one pack; frames that are on disk are not computed again."""

import signal
from pathlib import Path

from arguments import (
    Attempt,
    Lease,
    limit_threads,
    pack_parser,
    read_json,
    run_folder,
    run_pack,
    settings,
    write_json,
)
from ionraman.attempts import Stopped

parser = pack_parser(__doc__)
parser.add_argument("dynamics", type=Path)
parser.add_argument("output", type=Path)
arguments = parser.parse_args()
compute = settings(arguments.compute)
limit_threads(compute["threads"])


def stop(*_) -> None:
    raise Stopped("stopped; run again to go on after the last segment")


signal.signal(signal.SIGTERM, stop)


def main(lease: Lease, attempt: Attempt) -> None:
    import torch
    from ionraman import polarizability, potentials
    from ionraman.inference import evaluate_run

    torch.set_num_threads(compute["threads"])
    model = polarizability.load(
        arguments.model, potentials.select_device(compute["device"]), arguments.sha256
    )
    dynamics = read_json(arguments.dynamics)
    records = {}

    def saved(frames: int) -> None:
        lease.check()
        attempt.steps_end = (attempt.steps_end or 0) + frames

    for run in arguments.members:
        key = f"{run[0]}:{run[1]:g}"
        record = dynamics[key]
        if record["status"] == "complete":
            batch = settings(arguments.settings)["batch_atoms"]
            record = evaluate_run(model, run_folder(arguments.folder, run), record, batch, saved)
            record |= {"alpha_model": arguments.model.name, "alpha_model_sha256": model.sha256}
        else:
            record = {"status": record["status"], "reason": record["reason"]}
        records[key] = record
    write_json(arguments.output, records)


run_pack(main, arguments, arguments.output.name.split(".")[0], "polarizability")
