"""Cross-validate and fit the polarizability ensemble; write workflow/models/alpha-small.

Folds are whole trajectories. The errors in the card are those of frames whose trajectory the member had not seen; the shipped
members are fitted to all frames with the same settings.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ase.io
import numpy as np
import torch
from ase.data import atomic_numbers
from ionraman.polarizability import PolarizabilityModel
from ionraman.training import polarizability as training

ELEMENTS = ["Na", "P", "S", "Cl", "Sb", "W"]
MATERIALS = {"Na6Sb2S8": "Na3SbS4", "Na6P2S8": "Na3PS4"}
NUMBERS = [atomic_numbers[symbol] for symbol in ELEMENTS]


def read(files: list[str]):
    frames = [atoms for file in files for atoms in ase.io.read(file, ":")]
    alpha = np.array([np.reshape(atoms.info["alpha_A3"], (3, 3)) for atoms in frames])
    materials = [MATERIALS.get(atoms.info["system"], atoms.info["system"]) for atoms in frames]
    runs = [atoms.info.get("run", f"{atoms.info['system']}-{atoms.info['temperature_K']}") for atoms in frames]
    for atoms in frames:
        atoms.calc = None
    return frames, alpha, materials, np.array(runs)


def fit(job) -> torch.nn.Module:
    frames, alpha, materials, architecture, standard, seed, epochs = job
    torch.set_num_threads(1)
    return training.fit_member(
        frames, alpha, materials, NUMBERS, architecture, standard, seed=seed, epochs=epochs,
        report=lambda line: print(f"seed {seed}: {line}", flush=True),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--architecture", type=json.loads, default={})
    parser.add_argument("--folder", type=Path, default=Path("workflow/models/alpha-small"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    frames, alpha, materials, runs = read(arguments.files)
    architecture = training.Architecture(**arguments.architecture)
    standard = training.standardise(frames, alpha)
    names = sorted(set(runs))
    np.random.default_rng(3).shuffle(names)
    held = [np.isin(runs, names[fold :: arguments.folds]) for fold in range(arguments.folds)]
    jobs = [
        (
            [frames[k] for k in np.flatnonzero(chosen)],
            alpha[chosen],
            [materials[k] for k in np.flatnonzero(chosen)],
            architecture,
            standard,
            seed,
            arguments.epochs,
        )
        for seed, chosen in enumerate([*(~mask for mask in held), *[np.ones(len(frames), bool)] * arguments.members])
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        fitted = list(pool.map(fit, jobs))
    predicted = np.empty_like(alpha)
    for member, mask in zip(fitted, held):
        model = PolarizabilityModel(Path("."), "", [member], *standard, {}, torch.device("cpu"))
        predicted[mask] = model.predict([frames[k] for k in np.flatnonzero(mask)])[:, 0].sum(axis=1)
    errors = training.relative_errors(predicted, alpha, materials)
    information = {
        "licence": "BSD-3-Clause",
        "labels": {"frames": len(frames), "trajectories": len(names), "level": "Quantum ESPRESSO 6.7, PBE, GTH, 30 Ry, 2x2x2"},
        "errors_cross_validated": errors,
        "epochs": arguments.epochs,
    }
    if arguments.members:
        members = fitted[arguments.folds :]
        training.export(arguments.folder, members, frames, NUMBERS, architecture, standard, information)
        model = PolarizabilityModel(
            Path("."), "", [member.double() for member in members], *standard, {}, torch.device("cpu")
        )
        atoms = next(frame for frame in frames if "W" in frame.symbols)
        reference = {"numbers": atoms.numbers.tolist(), "positions_A": atoms.positions.tolist()}
        reference |= {"cell_A": atoms.cell.array.tolist(), "alpha_A3": model.predict([atoms])[0].sum(axis=1).tolist()}
        (arguments.folder / "reference.json").write_text(json.dumps(reference))
    for material, row in errors.items():
        print(f"{material:10s} {row['frames']:3d} frames: isotropic {row['isotropic']:.2f}, anisotropic {row['anisotropic']:.2f}")


if __name__ == "__main__":
    main()
