"""Standard errors of correlated series, and the decision that a cell has settled."""

import numpy as np
import pytest
from ionraman.equilibration import cell_settled, squared_error, symmetric_cell


def correlated(rng, count, tau):
    """Ornstein-Uhlenbeck series of unit variance; its integrated correlation time is tau samples."""
    decay = np.exp(-1 / tau)
    noise, series = rng.normal(size=count), np.empty(count)
    series[0] = noise[0]
    for k in range(1, count):
        series[k] = decay * series[k - 1] + np.sqrt(1 - decay**2) * noise[k]
    return series


def test_squared_error_is_the_scatter_of_means():
    rng = np.random.default_rng(0)
    series = [correlated(rng, 2000, 20) for _ in range(200)]
    scatter = np.var([part.mean() for part in series])
    assert np.mean([squared_error(part, 2000) for part in series]) == pytest.approx(scatter, rel=0.2)


def cells(volumes):
    return np.cbrt(volumes)[:, None, None] * np.eye(3)


def test_a_stationary_cell_has_settled_and_a_drifting_one_has_not():
    rng = np.random.default_rng(1)
    noise = np.array([[correlated(rng, 1000, 50) for _ in range(1)] for _ in range(100)])[:, 0].T
    settled = [cell_settled(cells(1000 + 5 * noise[:, k])) for k in range(100)]
    assert np.mean(settled) > 0.5  # thirds of 7 correlation times; a wrong no only makes a run longer
    drift = np.linspace(0, 60, 1000)
    assert not any(cell_settled(cells(1000 + drift + 5 * noise[:, k])) for k in range(20))


def group(structure):
    import spglib

    found = spglib.get_symmetry(structure)
    lattice = np.array(structure[0]).T
    return lattice @ found["rotations"] @ np.linalg.inv(lattice)


def test_a_cubic_crystal_keeps_its_shape_whatever_the_supercell():
    matrix = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    rotations = group((np.eye(3) * 5.6, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], [1] * 4))
    reference = matrix @ (np.eye(3) * 5.6)
    rng = np.random.default_rng(3)
    strained = reference @ (1.02 * np.eye(3) + rng.normal(0, 0.03, (3, 3)))
    cell = symmetric_cell(strained, reference, rotations)
    assert abs(np.linalg.det(cell)) == pytest.approx(abs(np.linalg.det(strained)), rel=1e-12)
    scale = (np.linalg.det(cell) / np.linalg.det(reference)) ** (1 / 3)
    np.testing.assert_allclose(cell, reference * scale, atol=1e-10)


def test_a_tetragonal_crystal_keeps_its_axes_ratio_and_a_triclinic_one_everything():
    tetragonal = np.diag([5.0, 5.0, 7.0])
    rotations = group((tetragonal, [[0, 0, 0]], [1]))
    cell = symmetric_cell(
        tetragonal @ (np.diag([1.04, 1.00, 0.97]) + 0.02 * np.eye(3, k=1)), tetragonal, rotations
    )
    lengths = np.linalg.norm(cell, axis=1)
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-10)
    assert lengths[2] / lengths[0] == pytest.approx(7 * 0.97 / 5 / np.sqrt(1.04), rel=2e-3)
    np.testing.assert_allclose(cell @ cell.T, np.diag(np.diag(cell @ cell.T)), atol=1e-9)
    free = symmetric_cell(tetragonal @ np.diag([1.04, 1.0, 0.97]), tetragonal, np.eye(3)[None])
    np.testing.assert_allclose(np.linalg.norm(free, axis=1), [5.2, 5.0, 6.79], rtol=1e-9)


def test_a_shape_that_drifts_at_constant_volume_has_not_settled():
    rng = np.random.default_rng(5)
    drift = np.linspace(0, 0.05, 900)
    shapes = np.exp(np.array([drift, -drift / 2, -drift / 2]).T)[:, :, None] * np.eye(3)
    noise = np.exp(0.002 * np.array([correlated(rng, 900, 30) for _ in range(3)]).T)[:, :, None] * np.eye(3)
    assert not cell_settled(10 * shapes @ noise)
