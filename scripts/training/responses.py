"""Compare the changes of alpha that a polarizability model predicts with first principles: Raman tensors, single ions, pairs of cells, soft modes.

A pair is a hot cell with all ions displaced along one random direction, up and down: dalpha/dr along it by central difference. Modes are those at
Gamma of a relaxed cell, and give its first-order Raman intensities at low wavenumbers. Raman tensors are of every ion of a hot cell, in LDA
(`raman_tensors.py`), and some 7 % larger than those of the labels, whose functional is PBE; soft modes are the changes of alpha along the soft
directions of that cell, as far as heat moves them at 600 K.

    python scripts/training/responses.py workflow/models/alpha-small
"""

import argparse
from pathlib import Path

import ase.io
import mace  # noqa: F401  (before e3nn)
from ionraman import polarizability
from ionraman.training import evaluation, fits

DATA = Path(__file__).parents[2] / "workflow/data"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model", type=Path, help="folder of a polarizability model")
parser.add_argument("--ions", type=Path, default=DATA / "polarizability_ions.extxyz", help="info: ion, -1 for the undisplaced cell")
parser.add_argument("--pairs", type=Path, default=DATA / "polarizability_pairs.extxyz", help="info: pair, side (up, down)")
parser.add_argument("--modes", type=Path, default=DATA / "polarizability_modes.extxyz", help="info: mode, wavenumber_cm, coordinate")
parser.add_argument("--tensors", type=Path, default=DATA / "raman_tensors.extxyz", help="array dalpha_dr_A2, of `raman_tensors.py`")


def words(row: dict) -> str:
    """Errors of a row in words."""
    parts = f"isotropic {row['isotropic']:.2f}, anisotropic {row['anisotropic']:.2f}"
    return f"|error| / |change| {row['relative_error']:.2f} ({parts})"


def main() -> None:
    arguments = parser.parse_args()
    model = polarizability.load(arguments.model)
    for material, row in evaluation.ion_response(model, ase.io.read(arguments.ions, ":")).items():
        print(f"{material}, {row['ions']} single ions in {row['atoms']} atoms: {words(row)}")
    for material, row in evaluation.mode_response(model, ase.io.read(arguments.modes, ":")).items():
        print(f"{material}, {row['modes']} soft modes: |error| / |change| {row['tensor_error']:.2f}, intensity together {row['relative_error']:+.0%}")
        for line in zip(row["wavenumber_cm"], row["model_A3"], row["label_A3"], strict=True):
            print("  {:.0f} cm^-1: {:.2g} A^3, from first principles {:.2g}".format(*line))
    for atoms in ase.io.read(arguments.tensors, ":"):
        print(f"Raman tensors of {atoms.symbols} ({atoms.info['source']})")
        for name, row in evaluation.tensor_response(model, atoms).items():
            unit, amplitude = ("A^3", f"; amplitude {row['amplitude']:.2f}") if name == "soft modes" else ("A^2", "")
            print(f"  {row['count']} {name} of {row['size']:.2g} {unit}: {words(row)}{amplitude}")
    frames = {(atoms.info["pair"], atoms.info["side"]): atoms for atoms in ase.io.read(arguments.pairs, ":")}
    for pair in dict.fromkeys(name for name, _ in frames):
        both = [frames[pair, side] for side in ("up", "down")]
        alpha, materials = fits.labels_of(both)
        predicted = model.predict(both).sum(axis=2).mean(axis=1)
        row = evaluation.change_errors(predicted[:1] - predicted[1:], alpha[:1] - alpha[1:])
        print(f"{materials[0]}, {pair}, {len(both[0])} atoms along one direction: {words(row)}")


if __name__ == "__main__":
    main()
