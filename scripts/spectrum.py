"""Raman spectrum and low-frequency marker of one run; the spectrum goes to spectrum.csv beside it."""

import argparse
from pathlib import Path

from arguments import limit_threads, read_json, recording_failure, settings, write_json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("dynamics", type=Path)
parser.add_argument("polarizability", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--settings", nargs="+", required=True)
parser.add_argument("--confidence", type=float, required=True)
arguments = parser.parse_args()
limit_threads(1)


def main() -> None:
    from ionraman.cleaning import kept
    from ionraman.marker import low_frequency
    from ionraman.raman import check_sampling, spectral_density
    from ionraman.trajectory import polarizability_store

    dynamics, polarizability = read_json(arguments.dynamics), read_json(arguments.polarizability)
    if polarizability["status"] != "complete":
        write_json(arguments.output, {"status": polarizability["status"], "reason": polarizability["reason"]})
        return
    raman, run = settings(arguments.settings), arguments.output.parent
    asked = {"laser_nm": raman["laser_nm"], "nu1_requested_cm": raman["nu1_cm"], "nu2_cm": raman["nu2_cm"]}
    if record := kept(run, "marker", confidence=arguments.confidence, **asked):
        write_json(arguments.output, record)
        return
    interval_ps, highest = dynamics["sampling_fs"] / 1000, dynamics["highest_line_cm"]
    arrays, metadata = polarizability_store(run).read("alpha_A3", frames=dynamics["frames"])
    alpha = arrays["alpha_A3"].astype(float).sum(axis=3)
    temperature = float(run.name.removesuffix("K"))
    try:  # a run too short or sampled too coarsely is a matter of settings: trying again would not help
        check_sampling(interval_ps, highest)
        density = spectral_density(alpha, interval_ps, dynamics["volume_A3"], nu1_cm=raman["nu1_cm"])
        marker = low_frequency(
            density,
            temperature,
            raman["nu1_cm"],
            raman["nu2_cm"],
            n_atoms=dynamics["n_atoms"],
            nu_max_cm=1.15 * highest,
            laser_nm=raman["laser_nm"],
            confidence=arguments.confidence,
        )
    except ValueError as error:
        write_json(arguments.output, {"status": "invalid", "reason": f"No marker: {error}."})
        return
    table = density.to_table(temperature, laser_nm=raman["laser_nm"])
    table.to_csv(run / "spectrum.csv", index=False, float_format="%.6g")
    extra = {
        "alpha_model": polarizability["alpha_model"],
        "alpha_model_sha256": polarizability["alpha_model_sha256"],
    }
    write_json(arguments.output, {"status": "complete", "reason": ""} | extra | marker.to_dict())


recording_failure(main, [arguments.output.parent], "spectrum")
