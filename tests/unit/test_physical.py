"""The physical model of the polarizability against closed forms, symmetries, and labels made with known parameters."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ionraman.training.physical import PhysicalModel, dipole_fields


def disordered(seed: int = 1) -> Atoms:
    """Rock salt of eight atoms in a triclinic cell, displaced."""
    ideal = bulk("NaCl", "rocksalt", 5.7, cubic=True)
    ideal.set_cell(ideal.cell.array @ (np.eye(3) + [[0.02, 0.03, 0], [0, -0.01, 0.02], [0, 0, 0.01]]), scale_atoms=True)
    ideal.rattle(0.15, seed=seed)
    return ideal


def deviations(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(count, 0.2), np.full(count, 0.4)


def test_field_in_a_cubic_lattice_is_that_of_lorentz():
    fields = dipole_fields(np.zeros((1, 3)), 3.1 * np.eye(3))
    np.testing.assert_allclose(fields[0, :, 0], 4 * np.pi / 3 / 3.1**3 * np.eye(3), atol=1e-6)


def test_fields_of_a_cell_and_of_its_supercell_agree():
    rng = np.random.default_rng(4)
    cell = np.diag([5.0, 5.4, 6.1]) + rng.normal(0, 0.3, (3, 3))
    positions = rng.random((3, 3)) @ cell
    small = dipole_fields(positions, cell)
    large = dipole_fields(
        np.concatenate([positions, positions + cell[0]]), np.array([2 * cell[0], cell[1], cell[2]])
    )
    np.testing.assert_allclose(large[:3, :, :3] + large[:3, :, 3:], small, atol=1e-6)
    np.testing.assert_allclose(small, small.transpose(2, 3, 0, 1), atol=1e-9)


def test_a_lattice_of_points_follows_clausius_and_mossotti():
    lattice = Atoms("Cl", cell=10 * np.eye(3), pbc=True)  # far beyond the pair terms and the damping
    model = PhysicalModel(["Cl"], {}, set(), np.array([4.0]))
    x = 4 * np.pi / 3 * 4.0 / 1000
    np.testing.assert_allclose(model.predict([lattice])[0], 4.0 * (1 + x + x**2) * np.eye(3), rtol=1e-6, atol=1e-9)


def test_polarizability_turns_with_the_crystal_and_is_extensive():
    atoms = disordered()
    model = PhysicalModel.of([atoms])
    model.parameters = model.prior() + np.random.default_rng(2).normal(0, 0.1, len(model.prior()))
    reference = model.predict([atoms])[0]
    assert np.abs(reference - np.trace(reference) / 3 * np.eye(3)).max() > 0.04
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = Atoms(atoms.numbers, atoms.positions @ rotation.T, cell=atoms.cell.array @ rotation.T, pbc=True)
    np.testing.assert_allclose(model.predict([turned])[0], rotation @ reference @ rotation.T, atol=1e-6)
    np.testing.assert_allclose(model.predict([atoms.repeat((1, 2, 1))])[0], 2 * reference, atol=1e-5)
    np.testing.assert_allclose(reference, reference.T, atol=1e-9)


def test_slopes_are_those_of_finite_differences():
    atoms = disordered()
    model = PhysicalModel.of([atoms])
    model.parameters = model.prior() + np.random.default_rng(5).normal(0, 0.1, len(model.prior()))
    design = model.design(atoms)
    _, slopes = model.evaluate(design, slopes=True)
    for k in range(len(model.parameters)):
        values = []
        for sign in (1, -1):
            moved = PhysicalModel(model.anions, model.pairs, model.bonded, model.parameters.copy())
            moved.parameters[k] += sign * 1e-4
            values.append(moved.evaluate(design)[0])
        np.testing.assert_allclose(slopes[:, k], (values[0] - values[1]) / 2e-4, atol=1e-5)


def test_a_fit_predicts_frames_that_it_did_not_see():
    frames = [disordered(seed) for seed in range(10)]
    truth = PhysicalModel.of(frames)
    truth.parameters = truth.prior() + np.random.default_rng(6).normal(0, 0.1, len(truth.prior()))
    alpha = truth.predict(frames)
    fitted = PhysicalModel.of(frames[:8]).fit(frames[:8], alpha[:8], deviations(8), ridge=1e-8)
    spread = np.sqrt(((alpha - alpha.mean(axis=0)) ** 2).mean())
    assert np.sqrt(((fitted.predict(frames[8:]) - alpha[8:]) ** 2).mean()) < 0.25 * spread


def test_bonds_of_real_cells_are_those_of_the_chemist(root):
    frames = ase.io.read(root / "workflow/data/polarizability_doped.extxyz", ":")
    model = PhysicalModel.of(frames)
    assert model.bonded >= {("S", "P"), ("S", "Sb"), ("S", "W")} and model.anions == ["S"]
    assert model.pairs["S", "P"] == pytest.approx(2.05, abs=0.1)
