"""Checks of the models of a generation: held-out errors, labeller's crystals and phonons, stability. JSON and markdown."""

from arguments import limit_threads, read_json, settings, training_parser, write_json

parser = training_parser(__doc__)
parser.add_argument("--generation", type=int, required=True)
parser.add_argument("--compute", nargs="+", required=True)
arguments = parser.parse_args()
compute = settings(arguments.compute)
limit_threads(compute["threads"])

import ase.io
import torch
from ionraman import polarizability, potentials
from ionraman.training import validation
from ionraman.training.calculators import Served
from ionraman.training.settings import read_record

torch.set_num_threads(compute["threads"])


def report(line: str) -> None:
    print(line, flush=True)


training = read_record(arguments.folder).training
errors = read_json(arguments.folder / f"g{arguments.generation}" / "errors.json")
limits, device = training.validate_, str(potentials.select_device(compute["device"]))
rows = validation.from_errors(errors["errors"], errors.get("ions", {}), limits)
if "force" in training.kinds:
    potential = potentials.load(errors["models"]["force"][0])
    teacher = Served(training.teacher) if training.teacher and training.teacher.stress else None
    for material in training.materials:
        cell = ase.io.read(arguments.folder / "cells" / f"{material.name}.extxyz")
        if not set(cell.get_chemical_symbols()) <= set(potential.elements):
            continue
        if teacher:
            student = potential.calculator(device, "float64")
            rows += validation.against_labeller(material.name, cell, student, teacher, limits, report)
        else:
            note = "no teacher with a stress"
            rows.append(
                validation.Check(
                    "lattice constants", material.name, None, limits.lattice_percent, "%", None, note
                )
            )
        student = potential.calculator(device, compute["dtype"])
        rows += validation.stability(material.name, cell, student, training.sample, limits, report)
if "alpha" in training.kinds:
    note = "rotation, permutation, translation, extensivity"
    try:
        polarizability.load(errors["models"]["alpha"], device)
        rows.append(validation.Check("symmetries", "alpha", None, None, "", True, note))
    except polarizability.ModelError as error:
        rows.append(validation.Check("symmetries", "alpha", float("nan"), 0.0, "", False, str(error)))
reasons = validation.refused(rows)
write_json(
    arguments.folder / "validation.json",
    {
        "passed": not reasons,
        "refused": reasons,
        "checks": [row.to_dict() for row in rows],
        "models": errors["models"],
    },
)
(arguments.folder / "validation.md").write_text(validation.markdown(rows, f"Validation of {training.name}"))
print("\n".join(reasons) or "All checks that could be made passed.")
