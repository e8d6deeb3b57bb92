"""Raman tensors (dalpha/dr of every ion) of configurations from first principles: one record of 18 numbers an ion each.

    python scripts/training/raman_tensors.py frames.extxyz --espresso config/training_default.yaml --work raman --out raman.extxyz

pw.x and ph.x run as `training.espresso` of the file says, but in LDA (ph.x has the second-order response for no other functional). A force field
adds the Hessian, by which a fit weighs the directions (`ionraman.training.physical.thermal_modes`). A frame that
is finished in the work folder is not computed again; one that was cut off goes on. To use several cores, run it on several
files.
"""

import argparse
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import ase.io
import numpy as np
import yaml
from ase import Atoms
from ionraman import potentials
from ionraman.modelfile import ModelError
from ionraman.training import labels
from ionraman.training.espresso import LabelRejected, ProgramFailed, ProgramMissing, raman_tensors
from ionraman.training.settings import Espresso
from ionraman.training.validation import hessian
from ionraman.trajectory import read_json, write_json

MODELS = Path(__file__).parents[2] / "workflow/models"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("frames", nargs="+", type=Path, help="extxyz")
parser.add_argument("--espresso", type=Path, required=True, help="YAML file with training.espresso")
parser.add_argument("--work", type=Path, required=True, help="folder of the programs' files and of what is finished")
parser.add_argument("--force", type=Path, default=MODELS / "force-medium", help="folder of a force field with the elements of the frames")
parser.add_argument("--out", type=Path, required=True, help="extxyz of all that is finished: arrays dalpha_dr_A2, nine numbers for each of x, y, z, and hessian_eV_A2")


def record_of(atoms: Atoms, work: Path, settings: Espresso) -> dict:
    """The record of a frame, computed if there is none."""
    folder = work / labels.key(atoms, settings.model_dump_json())
    path = folder / "raman.json"
    if not path.exists():
        try:
            record = raman_tensors(atoms, folder, settings)
        except LabelRejected as error:
            record = {"rejected": str(error)}
        write_json(path, record)
    return read_json(path)


def main() -> None:
    arguments = parser.parse_args()
    config = yaml.safe_load(arguments.espresso.read_text()) or {}
    if "espresso" not in (config.get("training") or {}):
        parser.error(f"{arguments.espresso}: found no training.espresso; allowed: a file like config/training_default.yaml")
    settings = Espresso(**config["training"]["espresso"])
    frames = {file: ase.io.read(file, ":") for file in arguments.frames}
    potential = potentials.load(arguments.force)
    if unknown := sorted({symbol for read in frames.values() for atoms in read for symbol in atoms.symbols} - set(potential.elements)):
        parser.error(f"--force {arguments.force}: found no {', '.join(unknown)}; allowed: a force field with all elements of the frames")
    calculator = potential.calculator()
    finished = []
    for file, read in frames.items():
        for number, atoms in enumerate(read):
            record = record_of(atoms, arguments.work, settings)
            name = f"{file.stem}[{number}]"
            if "rejected" in record:
                print(f"{name}: rejected, {record['rejected']}", flush=True)
                continue
            done = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
            done.info = {"temperature_K": atoms.info["temperature_K"]} if "temperature_K" in atoms.info else {}
            done.info |= {"material": str(atoms.info.get("material") or atoms.info.get("system") or atoms.symbols)}
            done.info |= {"run": str(atoms.info.get("run") or name)}
            done.info |= {"source": name, "level": record["level"], "epsilon": np.ravel(record["epsilon"]), "sum_rule": record["sum_rule"]}
            done.arrays["dalpha_dr_A2"] = np.reshape(record["dalpha_dr_A2"], (len(atoms), 27))
            done.arrays["hessian_eV_A2"] = hessian(atoms, calculator).reshape(len(atoms), -1)
            finished.append(done)
            print(f"{name}: {len(atoms)} ions, sum rule {record['sum_rule']:.3f} of the tensors", flush=True)
            ase.io.write(arguments.out, finished, format="extxyz")


if __name__ == "__main__":
    try:
        main()
    except (ProgramMissing, ProgramFailed, ModelError) as error:
        sys.exit(f"Error: {error}")
