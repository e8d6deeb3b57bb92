"""From the .model file of mace_run_train to workflow/models/force-small, with errors per system on held-out frames.

    python export_force_field.py MODEL VALID.extxyz
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import ase.io
import mace  # noqa: F401  (before e3nn)
import numpy as np
import torch
from ionraman.training.export import export_force_field
from mace.calculators import MACECalculator

folder = Path("workflow/models/force-small")
model = torch.load(sys.argv[1], weights_only=False, map_location="cpu").float()
frames = ase.io.read(sys.argv[2], ":")
calculator = MACECalculator(models=[model], device="cpu", default_dtype="float32")
squares = defaultdict(list)
for atoms in frames:
    reference = atoms.arrays["REF_forces"]
    atoms.calc = calculator
    squares[atoms.info["system"]].append(((atoms.get_forces() - reference) ** 2).mean())
errors = {
    name: {"frames": len(values), "force_rmse_meV_A": round(float(np.sqrt(np.mean(values))) * 1000, 1)}
    for name, values in sorted(squares.items())
}
information = {
    "units": {"energy": "eV", "length": "A"},
    "licence": "BSD-3-Clause",
    "labels": "TensorNet-MatPES-r2SCAN-v2025.1 (BSD-3-Clause), workflow/data/teacher_forces.extxyz.xz",
    "errors_held_out": errors,
}
export_force_field(model, folder, information)
atoms = next(frame for frame in frames if "W" in frame.symbols)
atoms.calc = MACECalculator(models=[model.double()], device="cpu", default_dtype="float64")
reference = {"numbers": atoms.numbers.tolist(), "positions_A": atoms.positions.tolist(), "cell_A": atoms.cell.array.tolist()}
reference |= {"energy_eV": atoms.get_potential_energy(), "forces_eV_A": atoms.get_forces().tolist()}
(folder / "reference.json").write_text(json.dumps(reference))
print(json.dumps(errors, indent=1))
