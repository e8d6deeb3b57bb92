"""Checks of the models of a generation: held-out errors, labeller's crystals and phonons, stability, spectra. JSON and markdown."""

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
from ionraman.training import spectra, validation
from ionraman.training.calculators import Served
from ionraman.training.record import read_record

torch.set_num_threads(compute["threads"])


def report(line: str) -> None:
    print(line, flush=True)


record = read_record(arguments.folder)
training = record.training
errors = read_json(arguments.folder / f"g{arguments.generation}" / "errors.json")
limits, device = training.validate_, str(potentials.select_device(compute["device"]))
rows = validation.from_errors(errors["errors"], limits, errors.get("ions"), errors.get("modes"))
cells = {material.name: ase.io.read(arguments.folder / "cells" / f"{material.name}.extxyz") for material in training.materials}
potential = None
if "force" in training.kinds:
    potential = potentials.load(errors["models"]["force"][0])
elif start := record.models["force"].get(training.sample.start):
    potential = potentials.load(arguments.root / start["path"], start["sha256"])
if "force" in training.kinds:
    teacher = Served(training.teacher) if training.teacher and training.teacher.stress else None
    for name, cell in cells.items():
        if not set(cell.get_chemical_symbols()) <= set(potential.elements):
            continue
        if teacher:
            student = potential.calculator(device, "float64")
            rows += validation.against_labeller(name, cell, student, teacher, limits, report)
        else:
            note = "no teacher with a stress"
            rows.append(
                validation.Check(
                    "lattice constants", name, None, limits.lattice_percent, "%", None, note
                )
            )
        student = potential.calculator(device, compute["dtype"])
        rows += validation.stability(name, cell, student, training.sample, limits, report)
if "alpha" in training.kinds:
    note = "rotation, permutation, translation, extensivity"
    try:
        model = polarizability.load(errors["models"]["alpha"], device)
        rows.append(validation.Check("symmetries", "alpha", None, None, "", True, note))
    except polarizability.ModelError as error:
        rows.append(validation.Check("symmetries", "alpha", float("nan"), 0.0, "", False, str(error)))
    else:
        if limits.reference_alpha:
            entry = record.models["alpha"][limits.reference_alpha]
            reference = polarizability.load(arguments.root / entry["path"], device, entry["sha256"])
            calculator = potential.calculator(device, compute["dtype"]) if potential else Served(training.teacher)
            for name, cell in cells.items():
                if set(cell.get_chemical_symbols()) <= set(model.elements):
                    rows.append(
                        spectra.against_reference(name, cell, calculator, model, reference, training.sample, limits, report)
                    )
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
