"""Learning curve: held-out errors against the number of labels, with the spread over fits, as table and figure."""

from pathlib import Path

from arguments import read_json, training_parser

parser = training_parser(__doc__)
parser.add_argument("errors", nargs="+", type=Path)
arguments = parser.parse_args()

from ionraman.training.curve import draw, table

rows = table([read_json(file) for file in arguments.errors])
rows.to_csv(arguments.folder / "learning_curve.csv", index=False)
draw(rows, arguments.folder / "learning_curve.svg")
