"""I_low of one polarizability model against another, along one trajectory of the shipped force field."""

import ase.build
import numpy as np
import pytest
from ionraman import polarizability, potentials
from ionraman.training import spectra
from ionraman.training.settings import Sample, Validate


class Scaled:
    """A model whose tensors are 1.1 times those of another: its intensities are 1.21 times as large."""

    def __init__(self, model):
        self.model, self.elements = model, model.elements

    def predict(self, frames):
        return 1.1 * self.model.predict(frames)


@pytest.fixture(scope="module")
def check(root):
    """The row of a crystal, for the scaled model."""
    calculator = potentials.load(root / "workflow/models/force-small").calculator("cpu", "float32")
    model = polarizability.load(root / "workflow/models/alpha-small")
    limits = Validate(reference_alpha="small", reference_ps=7.0, reference_intensity=0.2, run_atoms=8)
    return lambda cell: spectra.against_reference("salt", cell, calculator, Scaled(model), model, Sample(), limits, print)


def test_the_error_of_i_low_is_that_of_the_square_of_the_tensors(check):
    row = check(ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True))
    assert row.value == pytest.approx(0.21, abs=1e-3) and row.passed is False and np.isclose(row.limit, 0.2)
    assert "of small" in row.note and "to 50 cm^-1, 8 atoms, 7 ps at 300 K" in row.note


def test_a_crystal_that_the_larger_model_does_not_know_is_not_judged(check):
    row = check(ase.build.bulk("MgO", "rocksalt", 4.2))
    assert row.passed is None and "small does not know O, Mg" in row.note.replace("Mg, O", "O, Mg")
