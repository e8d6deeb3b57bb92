"""The first evaluation of a force field in a process is to the last bit that of a run under way, or resumed runs would differ.

In a process of its own: after other tests TorchScript is warm.
"""

import subprocess
import sys

PROGRAM = """
import sys
from pathlib import Path
import numpy as np, torch, torch_sim as ts
from ase.build import bulk
from ionraman import potentials
from ionraman.dynamics import Engine
from ionraman.protocol import Member, Protocol

torch.set_num_threads(1)
path, folder, how, cpu = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], torch.device("cpu")
potential, cell = potentials.load(path), bulk("NaCl", "rocksalt", 5.7, cubic=True)
engine = Engine([Member("NaCl", 600.0, cell, "Na", folder)], Protocol(), potential, folder, cpu)
model = engine._model(how == "stress")
rng, systems = np.random.default_rng(0), [cell.copy() for _ in range(3)]
for atoms in systems:
    atoms.positions += rng.normal(0, 0.25, atoms.positions.shape)
state = ts.initialize_state(systems, cpu, torch.float32)
first, _, later = (model(state)["forces"].clone() for _ in range(3))
print("same" if torch.equal(first, later) else "different")
"""


def answer(root, folder, how: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(root / "workflow/models/force-small"), str(folder), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_the_first_evaluation_of_an_engine_is_like_all_others(root, tmp_path):
    assert answer(root, tmp_path, "plain") == answer(root, tmp_path, "stress") == "same"
