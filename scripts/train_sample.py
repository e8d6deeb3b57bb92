"""Configurations of one material to label: dynamics, rattled cells and displaced ions, the most diverse ones chosen."""

from arguments import limit_threads, read_json, settings, training_parser

parser = training_parser(__doc__)
parser.add_argument("--generation", type=int, required=True)
parser.add_argument("--material", required=True)
parser.add_argument("--compute", nargs="+", required=True)
arguments = parser.parse_args()
compute = settings(arguments.compute)
limit_threads(compute["threads"])

import ase.io
import numpy as np
from ionraman.training import sampling
from ionraman.training.calculators import Served
from ionraman.training.descriptors import mace_descriptors, pair_descriptors
from ionraman.training.record import read_record
from ionraman.training.validation import targets_met

UNITS = {"force": "eV/A", "alpha": "A^3"}
record = read_record(arguments.folder)
training, generation, material = record.training, arguments.generation, arguments.material
output = arguments.folder / f"g{generation}" / material
counts = {kind: training.labels(kind, material, generation) for kind in ("force", "alpha")}
previous = read_json(arguments.folder / f"g{generation - 1}/errors.json") if generation else {}
if previous and targets_met(previous["errors"], training.validate_):
    print(f"Generation {generation - 1} meets its targets: nothing more is labelled.")
    counts = dict.fromkeys(counts, 0)
chosen: dict[str, list] = {"force": [], "alpha": []}
if any(counts.values()):
    from ionraman import potentials
    from ionraman.training.evaluation import alpha_disagreement, force_disagreement

    cell = ase.io.read(arguments.folder / "cells" / f"{material}.extxyz")
    device = str(potentials.select_device(compute["device"]))
    models = previous.get("models", {})
    committee = models.get("force", [])
    start = record.models["force"].get(training.sample.start)
    origin = training.digest("sample", "teacher", material=material)
    if committee or start:
        used = {"path": committee[0], "sha256": None} if committee else start
        potential = potentials.load(arguments.root / used["path"], used["sha256"])
        calculator, origin = potential.calculator(device, compute["dtype"]), f"{origin}-{potential.sha256[:8]}"

        def describe(frames):
            return mace_descriptors(calculator, frames)
    else:
        calculator, describe = Served(training.teacher), pair_descriptors
    runs = sampling.plan(training.sample, material, generation)
    frames = sampling.trajectories(
        cell, runs, training.sample, calculator, material,
        output / "trajectories" / origin, lambda line: print(line, flush=True),
    )  # fmt: skip
    doubts = {}
    if len(committee) > 1 and counts["force"] and frames:
        doubts["force"] = force_disagreement(frames, [arguments.root / path for path in committee], device)
    if "alpha" in models and counts["alpha"] and frames:
        doubts["alpha"] = alpha_disagreement(frames, arguments.root / models["alpha"], device)
    own = training.material(material)
    displaced = own.displaced if not generation and counts["alpha"] else 0
    chosen["alpha"] = sampling.choose(frames, counts["alpha"] - displaced, describe, training.sample, doubts.get("alpha"))
    if counts["force"]:
        extra = (
            [] if generation else sampling.rattled(cell, training.sample, calculator, material, generation)
        )
        chosen["force"] = sampling.choose(
            frames + extra, counts["force"], describe, training.sample, doubts.get("force")
        )
    for kind, doubt in doubts.items():
        of = {id(atoms): value for atoms, value in zip(frames, doubt, strict=True)}
        fitted = [of[id(atoms)] for atoms in chosen[kind] if atoms.info["split"] == "train"]
        mean = f"{np.mean(fitted):.3g}" if fitted else "none"
        print(f"{kind}: members disagree by {doubt.mean():.3g} {UNITS[kind]} in all frames, by {mean} in those to fit to")
    if displaced and own.ions_displaced:
        chosen["alpha"] += sampling.ions_displaced(cell, own.ions_displaced, training.sample, material)
    if displaced and own.modes_displaced:
        chosen["alpha"] += sampling.modes_displaced(cell, own.modes_displaced, training.sample, calculator, material)
for kind, frames in chosen.items():
    for number, atoms in enumerate(frames):
        atoms.info |= {"number": number, "generation": generation}
    file = output / f"{kind}.extxyz"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    if frames:
        ase.io.write(file, frames)
    print(f"{len(frames)} configurations for {kind} labels in {file}")
