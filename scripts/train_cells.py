"""Cells of the training crystals: charge-balanced, with an even number of electrons."""

import sys

from arguments import training_parser

parser = training_parser(__doc__)
arguments = parser.parse_args()

from ionraman.training.cells import CellInvalid, write_cells
from ionraman.training.record import read_record

try:
    write_cells(read_record(arguments.folder), arguments.root, arguments.folder / "cells")
except CellInvalid as error:
    sys.exit(str(error))
