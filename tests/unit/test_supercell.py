"""Supercells against brute force and known lattices."""

import numpy as np
import pytest
from ionraman.supercell import hermite_normal_forms, search

CUBE = np.eye(3)
FCC = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])


def shortest(cell):
    """Shortest lattice vector by enumeration, far beyond what a reduced cell needs."""
    grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.linalg.norm(grid[np.any(grid != 0, axis=1)] @ cell, axis=1).min()


def test_number_of_superlattices():
    # Sum over the divisors d of n of d sigma(d): 1, 7, 13, 35, 31, 91, 57, 155 (Hart and Forcade 2008, table
    # II).
    assert [len(hermite_normal_forms(n)) for n in range(1, 9)] == [1, 7, 13, 35, 31, 91, 57, 155]
    assert np.allclose(np.linalg.det(hermite_normal_forms(8)), 8)


@pytest.mark.parametrize(
    "lattice, budget, wanted, index, image",
    [
        (7.17 * CUBE, 4, 11, 4, 7.17 * 3**0.5),
        (5.64056 * CUBE, 8, 11, 8, 2 * 5.64056),
        (6.4728 * CUBE, 8, 11, 4, 6.4728 * 3**0.5),
        (2.8 * FCC, 30, 11.5, 27, 3 * 2.8 * 2**0.5),
        (12.0 * CUBE, 5, 11, 1, 12.0),
    ],
)
def test_smallest_cell_that_meets_the_distance(lattice, budget, wanted, index, image):
    supercell, met = search(lattice, budget, wanted)
    assert met
    assert round(np.linalg.det(supercell.matrix)) == index
    assert supercell.image_A == pytest.approx(image)


def test_matrices_read_like_those_of_a_person():
    assert search(7.17 * CUBE, 4, 11)[0].matrix.tolist() == [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]
    assert search(5.64056 * CUBE, 8, 11)[0].matrix.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]


def test_best_cell_of_the_budget_where_none_meets_the_distance():
    supercell, met = search(3 * CUBE, 5, 11)
    assert not met
    assert supercell.image_A == pytest.approx(3 * 3**0.5)  # index 4 or 5: no vector shorter than (1, 1, 1)
    assert round(np.linalg.det(supercell.matrix)) == 4
    assert search(3 * CUBE, 0, 11) == (None, False)


@pytest.mark.parametrize("seed", range(8))
def test_random_lattices_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    lattice = (rng.normal(size=(3, 3)) + 2 * np.eye(3)) * (-1) ** seed
    supercell, met = search(lattice, 6, 4.0)
    cell = supercell.matrix @ lattice
    assert np.linalg.det(cell) > 0
    assert shortest(cell) == pytest.approx(supercell.image_A)
    index = abs(round(np.linalg.det(supercell.matrix)))
    # Every other superlattice: none smaller meets the distance, none of this size has images further apart.
    for smaller in range(1, 7):
        images = [shortest(_reduced(form @ lattice)) for form in hermite_normal_forms(smaller)]
        if smaller == index or not met:
            assert max(images) <= supercell.image_A + 1e-6
        elif smaller < index:
            assert max(images) < 4.0
    assert met == (supercell.image_A >= 4.0)


def _reduced(cell):
    from ase.geometry import minkowski_reduce

    return minkowski_reduce(cell)[0]


def test_the_same_on_a_slightly_rounded_lattice():
    """Rounding errors of another machine must not choose another of several equally good cells."""
    for seed in range(5):
        noise = 1 + 1e-13 * np.random.default_rng(seed).normal(size=(3, 3))
        for lattice, budget in ((7.17 * CUBE, 4), (4.567 * CUBE, 12), (2.8 * FCC, 30)):
            same = search(lattice * noise, budget, 11)[0].matrix.tolist()
            assert same == search(lattice, budget, 11)[0].matrix.tolist()
