"""Synthetic labels: what the physical model says, of copies of every material; and the even choice of frames to label."""

import numpy as np
import pytest
from ase.build import bulk
from ionraman.training.physical import PhysicalModel
from ionraman.training.polarizability import thermal_deviation
from ionraman.training.sampling import evenly
from ionraman.training.synthetic import rattled_copies, synthetic_labels


@pytest.fixture(scope="module")
def labelled():
    """NaCl and Na2S, labelled by a physical model with parameters of its own."""
    rng, frames, materials = np.random.default_rng(2), [], []
    for name, cell in (("NaCl", bulk("NaCl", "rocksalt", 5.7, cubic=True)), ("Na2S", bulk("Na2S", "fluorite", 6.5))):
        for _ in range(7):
            atoms = cell.copy()
            atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
            frames.append(atoms)
            materials.append(name)
    model = PhysicalModel.of(frames)
    model.parameters = model.prior() + 0.3 * model.widths() * rng.normal(size=len(model.parameters))
    return frames, model.predict(frames), materials


def test_copies_take_materials_and_frames_in_turn():
    materials = ["a"] * 3 + ["b"] * 5
    chosen = rattled_copies(range(8), materials, 30, seed=1)
    names = [materials[k] for k in chosen]
    assert names.count("a") == names.count("b") == 15
    assert sorted(chosen.count(k) for k in range(3)) == [5, 5, 5]
    assert sorted(chosen.count(k) for k in range(3, 8)) == [3, 3, 3, 3, 3]


def test_labels_of_copies_are_those_of_the_model_that_made_the_data(labelled):
    frames, alpha, materials = labelled
    copies, tensors, names = synthetic_labels(frames, alpha, materials, 12, seed=3)
    assert tensors.shape == (12, 3, 3) and names.count("NaCl") == 6
    np.testing.assert_allclose(tensors, tensors.swapaxes(1, 2), atol=1e-8)
    # Fourteen frames fix what the model says nearby, though not every parameter.
    sd_a, sd_beta = thermal_deviation(alpha, materials)
    refitted = PhysicalModel.of(frames).fit(frames, alpha, (sd_a, sd_beta))
    np.testing.assert_allclose(tensors, refitted.predict(copies), rtol=1e-10)
    inside = refitted.predict(frames)
    assert np.abs(inside - alpha).max() < 0.3 * np.abs(alpha - alpha.mean(axis=0)).max()
    # Copies are rattled and strained, not the frames themselves, and a seed makes them again.
    assert all(np.abs(copy.cell.array - frame.cell.array).max() > 1e-4 for copy in copies for frame in frames)
    again = synthetic_labels(frames, alpha, materials, 12, seed=3)
    np.testing.assert_array_equal(again[0][5].positions, copies[5].positions)


def test_even_choice_takes_the_same_number_from_every_run():
    runs = ["a"] * 10 + ["b"] * 10 + ["c"] * 4
    picks = evenly(runs, 6, seed=1)
    assert sorted(runs[k] for k in picks) == ["a", "a", "b", "b", "c", "c"]
    for name in "ab":  # one of each half of a run
        first, second = sorted(k % 10 for k in picks if runs[k] == name)
        assert first < 5 <= second
    assert len(set(runs[k] for k in evenly(runs, 2, seed=4))) == 2  # fewer frames than runs
    assert sorted(evenly(runs, 24, seed=1)) == sorted(set(evenly(runs, 24, seed=1)))
