"""Diffusivity of one run with its verdict; the mean squared displacement goes to msd.csv beside it."""

import argparse
from pathlib import Path

from arguments import limit_threads, read_json, recording_failure, write_json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("dynamics", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--confidence", type=float, required=True)
arguments = parser.parse_args()
limit_threads(1)


def main() -> None:
    from ionraman.cleaning import kept
    from ionraman.trajectory import trajectory_store
    from ionraman.transport import diffusion

    dynamics = read_json(arguments.dynamics)
    if dynamics["status"] != "complete":
        write_json(arguments.output, {"status": dynamics["status"], "reason": dynamics["reason"]})
        return
    run = arguments.output.parent
    if record := kept(run, "transport", confidence=arguments.confidence):
        write_json(arguments.output, record)
        return
    arrays, metadata = trajectory_store(run).read("positions_A", frames=dynamics["frames"])
    result = diffusion(
        arrays["positions_A"],
        metadata["cell_A"],
        metadata["species"],
        metadata["mobile"],
        metadata["sampling_fs"] / 1000,
        temperature_K=metadata["temperature_K"],
        confidence=arguments.confidence,
        seed=metadata["seed"],
    )
    result.msd_table().to_csv(run / "msd.csv", index=False, float_format="%.6g")
    write_json(arguments.output, {"status": "complete", "reason": ""} | result.to_dict())


recording_failure(main, [arguments.output.parent], "transport")
