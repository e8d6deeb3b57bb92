"""Put validated models into their folder with generated cards, and name them in models.yaml; refuse those that failed."""

import sys
from pathlib import Path

from arguments import read_frames, read_json, training_parser, write_json

parser = training_parser(__doc__)
parser.add_argument("--generation", type=int, required=True)
parser.add_argument("--models-file", type=Path, required=True)
arguments = parser.parse_args()

from ionraman.training import registry
from ionraman.training.datasets import compositions
from ionraman.training.record import read_record

training = read_record(arguments.folder).training
validation = read_json(arguments.folder / "validation.json")
if not validation["passed"]:
    listed = "\n".join(f"  - {reason}" for reason in validation["refused"])
    sys.exit(
        f"Error: {training.name} is not registered; it failed {len(validation['refused'])} checks of its validation "
        f"({arguments.folder}/validation.md):\n{listed}"
    )
generation = arguments.folder / f"g{arguments.generation}"
labels, errors = read_json(generation / "labels.json"), read_json(generation / "errors.json")
entries = {}
for kind in training.kinds:
    frames = read_frames(generation / f"{kind}.extxyz")
    fitted = [atoms for atoms in frames if atoms.info["split"] in ("train", "valid")]
    source = errors["models"][kind]
    entries[kind] = registry.install(
        kind, Path(source[0] if kind == "force" else source), arguments.root / training.folder / f"{training.name}-{kind}",
        training, labels[kind], errors["errors"][kind], validation["checks"], compositions(fitted), frames[0],
    )  # fmt: skip
registry.add_entries(arguments.root / arguments.models_file, training, entries)
write_json(
    arguments.folder / "registered.json",
    {"name": training.name, "models_file": str(arguments.models_file)} | entries,
)
for kind, digest in entries.items():
    print(f"Registered {kind}: {training.name} ({training.folder}/{training.name}-{kind}, SHA-256 {digest}).")
