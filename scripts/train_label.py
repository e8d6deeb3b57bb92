"""Labels of one chunk of configurations; those that exist are kept, those to be rejected are recorded with their reason."""

import sys

from arguments import limit_threads, read_frames, training_parser, write_json

parser = training_parser(__doc__)
parser.add_argument("--generation", type=int, required=True)
parser.add_argument("--material", required=True)
parser.add_argument("--kind", choices=("force", "alpha"), required=True)
parser.add_argument("--chunk", type=int, required=True)
arguments = parser.parse_args()
limit_threads(1)

from ionraman.training.calculators import TeacherError
from ionraman.training.espresso import ProgramFailed, ProgramMissing
from ionraman.training.labels import make_labels
from ionraman.training.record import read_record

training = read_record(arguments.folder).training
folder = arguments.folder / f"g{arguments.generation}" / arguments.material
size = training.teacher_per_job if arguments.kind == "force" else training.espresso.per_job
frames = read_frames(folder / f"{arguments.kind}.extxyz")[arguments.chunk * size :][:size]
try:
    counts = make_labels(
        arguments.kind, frames, arguments.folder / "labels", training, lambda line: print(line, flush=True)
    )
except (ProgramMissing, ProgramFailed, TeacherError) as error:
    sys.exit(f"Error: {error}")
write_json(folder / f"{arguments.kind}_{arguments.chunk}.json", counts)
