"""Real polarizability labels for the tests of the training, and an ensemble with networks, which the shipped one has none of."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk


@pytest.fixture(scope="module")
def labels(root):
    frames = ase.io.read(root / "workflow/data/polarizability_first.extxyz", ":")
    for number, atoms in enumerate(frames):
        atoms.info |= {"material": atoms.info["system"], "run": f"r{number}", "split": "train", "level": "QE"}
        atoms.calc = None
    return frames


@pytest.fixture(scope="session")
def network_model(tmp_path_factory):
    """Untrained networks on top of physical models of rock salt, from a model folder."""
    import torch
    from ionraman import polarizability
    from ionraman.training import physical
    from ionraman.training import polarizability as dielectric

    torch.manual_seed(0)
    frames = [bulk("NaCl", "rocksalt", 5.6, cubic=True) for _ in range(2)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed)
    below = physical.terms_of(frames)
    sizes = np.where(np.arange(below.size) < len(below.columns), 0.1, 0.02)
    below.parameters = physical.prior(below) + sizes * np.random.default_rng(0).normal(size=(2, below.size))
    shape = dielectric.Architecture(channels=4, radial=8)
    standard = dielectric.Standard({"Na": 0.2, "Cl": 2.0}, 0.5, below)
    folder = tmp_path_factory.mktemp("networks") / "model"
    dielectric.export(folder, [shape.member([11, 17], 0.045) for _ in range(2)], [11, 17], shape, standard, 0.045, {})
    return polarizability.load(folder)
