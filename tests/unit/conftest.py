"""Real polarizability labels for the tests of the training."""

import ase.io
import pytest


@pytest.fixture(scope="module")
def labels(root):
    frames = ase.io.read(root / "workflow/data/polarizability_first.extxyz", ":")
    for number, atoms in enumerate(frames):
        atoms.info |= {"material": atoms.info["system"], "run": f"r{number}", "split": "train", "level": "QE"}
        atoms.calc = None
    return frames
