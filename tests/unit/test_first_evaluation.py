"""The first evaluation of a force field in a process is to the last bit that of a run under way, or resumed runs would differ."""

import numpy as np
import torch
import torch_sim as ts
from ase.build import bulk
from ionraman import potentials
from ionraman.dynamics import Engine
from ionraman.protocol import Member, Protocol

CPU = torch.device("cpu")


def rattled():
    rng, systems = np.random.default_rng(0), []
    for _ in range(3):
        atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True)
        atoms.positions += rng.normal(0, 0.25, atoms.positions.shape)
        systems.append(atoms)
    return ts.initialize_state(systems, CPU, torch.float32)


def differs(model) -> bool:
    state = rattled()
    first, _, later = (model(state)["forces"].clone() for _ in range(3))
    return not torch.equal(first, later)


def test_the_first_evaluation_of_an_engine_is_like_all_others(root, tmp_path):
    path = root / "workflow/models/force-small"
    member = Member("NaCl", 600.0, bulk("NaCl", "rocksalt", 5.7, cubic=True), "Na", tmp_path)
    for stress in (False, True):
        engine = Engine([member], Protocol(), potentials.load(path), tmp_path, CPU)
        assert not differs(engine._model(stress))
