"""What counts as a molten host: whole polyanions and framework cations that moved, not polyanions that turned."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read
from ionraman.host import centre_displacement, host_centres
from scipy.spatial.transform import Rotation

TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
GOLDEN = (1 + 5**0.5) / 2
ICOSAHEDRON = np.array(
    [np.roll([0, a, b * GOLDEN], turn) for turn in range(3) for a in (1, -1) for b in (1, -1)]
) / np.hypot(1, GOLDEN)
POLYANIONS = {
    "SO4": (["S"] + ["O"] * 4, np.vstack([[0, 0, 0], 1.49 * TETRAHEDRON]), 5.6),
    "BH4": (["B"] + ["H"] * 4, np.vstack([[0, 0, 0], 1.2 * TETRAHEDRON]), 6.0),
    "SbS4": (["Sb"] + ["S"] * 4, np.vstack([[0, 0, 0], 2.33 * TETRAHEDRON]), 7.2),
    "B12H12": (["B"] * 12 + ["H"] * 12, np.vstack([1.70 * ICOSAHEDRON, 2.9 * ICOSAHEDRON]), 8.0),
}


def crystal(name: str, seed: int) -> Atoms:
    """Eight polyanions, each turned at random, on a simple cubic lattice with Na in the body centres."""
    symbols, shape, spacing = POLYANIONS[name]
    cell = 2 * spacing * np.eye(3)
    sites = spacing * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], float)
    turns = Rotation.random(8, random_state=seed).as_matrix()
    places = np.concatenate([site + shape @ turn for site, turn in zip(sites, turns, strict=True)])
    positions = np.concatenate([places, sites + spacing / 2])
    return Atoms(symbols * 8 + ["Na"] * 8, positions, cell=cell, pbc=True)


@pytest.mark.parametrize("name", POLYANIONS)
def test_polyanions_that_turn_are_no_melt_and_ones_that_trade_places_are(name):
    before, after = crystal(name, 1), crystal(name, 2)
    wrapped = before.copy()
    wrapped.wrap()  # a polyanion may be cut by the boundary of the cell
    centres = host_centres(wrapped, "Na")
    spacing = POLYANIONS[name][2]
    assert len(centres.weights) == 8 and centres.limit_A == pytest.approx(0.4 * spacing)
    start = before.positions[None]
    assert centre_displacement(start, after.positions[None], centres) < 1e-9
    traded, size = start.copy(), len(POLYANIONS[name][0])
    traded[:, : 8 * size] = np.roll(start[:, : 8 * size], size, axis=1)
    assert centre_displacement(start, traded, centres) > centres.limit_A


def test_lone_anions_are_centres_and_drift_is_no_melt():
    atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True)
    centres = host_centres(atoms, "Na")
    assert [atoms.symbols[w.argmax()] for w in centres.weights] == ["Cl"] * 4
    assert centres.limit_A == pytest.approx(0.4 * 5.7 / np.sqrt(2))
    start = np.array([atoms.positions] * 2)
    assert centre_displacement(start, start + [0.0, 5.0, 0.0], centres) == pytest.approx(0, abs=1e-12)
    moved, anions = start.copy(), atoms.symbols == "Cl"
    moved[1, anions] = np.roll(start[1, anions], 1, axis=0)
    assert centre_displacement(start, moved, centres) > centres.limit_A, "one replica is enough"


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("NaZr2P3O12_R-3c", {"Zr", "P"}),
        ("NaAl11O17_beta", {"Al"}),
        ("Na2SO4_V", {"OS"}),
        ("Na3AlF6_alpha", {"AlF"}),
        ("Na3YCl6_P21n", {"ClY"}),
        ("Na3OCl", {"O", "Cl"}),
    ],
)
def test_centres_of_the_candidates(root, file, kinds):
    """Clusters of the polyanions, cations of oxide frameworks, lone anions otherwise."""
    atoms = read(root / f"config/structures/{file}.cif")
    weights = host_centres(atoms, "Na").weights
    assert {"".join(sorted(set(atoms.symbols[weight > 0]))) for weight in weights} == kinds


def test_a_host_of_fewer_than_two_centres_says_nothing():
    assert host_centres(bulk("NaCl", "rocksalt", 5.7), "Na") is None, "one anion: its motion is drift"
    assert host_centres(bulk("Na", cubic=True), "Na") is None
