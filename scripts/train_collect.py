"""Data sets of a generation: all labels up to now and the imported ones, checked; what was rejected, with reasons."""

import sys

from arguments import read_frames, training_parser, write_json

parser = training_parser(__doc__)
parser.add_argument("--generation", type=int, required=True)
arguments = parser.parse_args()

import ase.io
from ionraman.training import datasets
from ionraman.training.labels import read_import, read_label
from ionraman.training.record import read_record

training = read_record(arguments.folder).training
output = arguments.folder / f"g{arguments.generation}"
report: dict[str, dict] = {}
for kind in training.kinds:
    frames, rejected = [], []
    for generation in range(arguments.generation + 1):
        for material in training.materials:
            if not training.labels(kind, material.name, generation):
                continue
            for atoms in read_frames(arguments.folder / f"g{generation}" / material.name / f"{kind}.extxyz"):
                label = read_label(kind, atoms, arguments.folder / "labels", training)
                if isinstance(label, str):
                    rejected.append({"name": datasets.name_of(atoms), "reason": label})
                else:
                    frames.append(label)
    for item in training.imports:
        if item.kind == kind:
            labelled, bad = read_import(item, training.checks)
            frames += labelled
            rejected += [{"name": name, "reason": reason} for name, reason in bad]
    try:
        level, pseudopotentials = datasets.one_level(frames, kind)
    except datasets.LevelMismatch as error:
        sys.exit(f"Error: {error}")
    frames, bad, judged = datasets.accepted(kind, frames, training.checks)
    rejected += bad
    for row in rejected:
        print(f"rejected ({kind}): {row['name']}: {row['reason']}", flush=True)
    if not any(atoms.info["split"] in ("train", "valid") for atoms in frames):
        sys.exit(f"Error: no {kind} label is left to fit to; {len(rejected)} were rejected (reasons above).")
    ase.io.write(output / f"{kind}.extxyz", frames)
    report[kind] = {
        "level": level,
        "pseudopotentials": pseudopotentials,
        "frames": len(frames),
        "by_material": datasets.summary(frames),
        "rejected": rejected,
        "orientation": judged,
    }
write_json(output / "labels.json", report)
