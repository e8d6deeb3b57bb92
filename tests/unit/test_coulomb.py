"""Potential and gradients of the ions' charges against Madelung's constant, finite differences and the cells alone."""

import math

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ionraman import coulomb

CHARGES = {"Na": 1.0, "Cl": -1.0}


def multipoles(*cells: Atoms) -> dict[str, np.ndarray]:
    positions = torch.as_tensor(np.concatenate([atoms.get_positions(wrap=True) for atoms in cells]))
    charges = torch.tensor([CHARGES[symbol] for atoms in cells for symbol in atoms.symbols], dtype=torch.float64)
    graph = torch.as_tensor(np.repeat(np.arange(len(cells)), [len(atoms) for atoms in cells]))
    found = coulomb.multipoles(positions, charges, graph, np.array([atoms.cell.array for atoms in cells]))
    return {name: values.numpy() for name, values in found.items()}


def without_trace(tensors: np.ndarray) -> np.ndarray:
    """Of (n, 3, 3)."""
    return tensors - np.trace(tensors, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)


def displaced(seed: int) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True)
    atoms.rattle(0.2, seed=seed)
    return atoms


def test_potential_in_rock_salt_is_that_of_madelung():
    atoms = bulk("NaCl", "rocksalt", 20.0, cubic=True)  # neighbours at 10 A, where a Gaussian is a point
    found = multipoles(atoms)
    own = np.array([CHARGES[symbol] for symbol in atoms.symbols])
    expected = own * (math.sqrt(2 / math.pi) / coulomb.WIDTH_A - 1.7475646 / 10.0)
    np.testing.assert_allclose(found["rho"], expected, atol=2e-5)
    for name in "vqo":
        np.testing.assert_allclose(found[name], 0, atol=1e-9)


def test_each_rank_is_the_gradient_of_the_one_before():
    atoms, step, ion = displaced(1), 1e-3, 5
    reference, slopes = multipoles(atoms), {name: [] for name in ("rho", "v", "q")}
    for axis in range(3):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[ion, axis] += sign * step
            sides.append(multipoles(moved))
        for name, values in slopes.items():
            values.append((sides[0][name][ion] - sides[1][name][ion]) / (2 * step))
    # An ion's own images move with it; in a cubic cell only the trace of their second derivative is left, and nothing of the others.
    np.testing.assert_allclose(reference["v"][ion], slopes["rho"], atol=1e-6)
    np.testing.assert_allclose(reference["q"][ion], without_trace(np.array([slopes["v"]]))[0], atol=1e-6)
    third = np.array(slopes["q"])
    third = (third + third.transpose(1, 0, 2) + third.transpose(1, 2, 0)) / 3
    traces = np.einsum("aac->c", third) / 5
    third -= sum(np.einsum(pattern, np.eye(3), traces) for pattern in ("ab,c->abc", "ac,b->abc", "bc,a->abc"))
    np.testing.assert_allclose(reference["o"][ion], third, atol=1e-6)
    assert np.abs(reference["o"][ion]).max() > 0.01


def test_a_cell_in_a_batch_and_its_supercell_are_as_the_cell_alone():
    one, other = displaced(1), displaced(2).repeat((2, 1, 1))
    together = multipoles(one, other)
    for name, values in multipoles(one).items():
        np.testing.assert_allclose(together[name][:8], values, atol=1e-12)
        np.testing.assert_allclose(together[name][8:16], multipoles(displaced(2))[name], atol=1e-9)
