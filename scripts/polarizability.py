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
            record = of_run(model, run_folder(arguments.folder, run), record, saved)
        else:
            record = {"status": record["status"], "reason": record["reason"]}
        records[key] = record
    write_json(arguments.output, records)


def of_run(model, folder: Path, dynamics: dict, saved) -> dict:
    from ionraman.cleaning import kept
    from ionraman.inference import evaluate_run

    origin = {"alpha_model": arguments.model.name, "alpha_model_sha256": model.sha256}
    try:
        if record := kept(folder, "polarizability", alpha_model_sha256=model.sha256):
            return record
    except ValueError as error:  # fails this member alone
        return {"status": "failed", "reason": str(error)}
    return evaluate_run(model, folder, dynamics, settings(arguments.settings)["batch_atoms"], saved) | origin


run_pack(main, arguments, arguments.output.name.split(".")[0], "polarizability")
