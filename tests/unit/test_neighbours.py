"""The kept neighbour list holds the pairs of a fresh one, always in the same order."""

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk
from ionraman.neighbours import VerletList, library_list

CPU = torch.device("cpu")
CUTOFF_A = 4.1


def trajectory(steps=60, seed=1, expand=True):
    """Positions far beyond the cell and changing cells of three small crystals, one of them skewed."""
    rng = np.random.default_rng(seed)
    cells = [bulk("NaCl", "rocksalt", 5.7), bulk("NaCl", "rocksalt", 5.7, cubic=True), bulk("Na2S", "fluorite", 6.5)]
    velocity = [rng.normal(0, 0.05, atoms.positions.shape) for atoms in cells]
    for step in range(steps):
        for atoms, v in zip(cells, velocity, strict=True):
            v += rng.normal(0, 0.02, v.shape)
            atoms.positions += v
            if expand:
                atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 2e-3, (3, 3))), scale_atoms=True)
        yield ts.initialize_state(cells, CPU, torch.float64)


def fresh(state, cutoff):
    return library_list(CPU)(
        state.positions, state.row_vector_cell, state.pbc, torch.tensor(cutoff, dtype=torch.float64), state.system_idx
    )


def rows(pairs):
    atoms, system, shift = pairs
    return sorted(map(tuple, torch.cat([atoms.T, system[:, None], shift.long()], dim=1).tolist()))


@pytest.mark.parametrize("expand", [False, True])
def test_it_holds_the_pairs_of_a_fresh_list(expand):
    kept, states = VerletList(library_list(CPU)), 0
    for state in trajectory(expand=expand):
        found = kept(state.positions, state.row_vector_cell, state.pbc, CUTOFF_A, state.system_idx)
        assert rows(found) == rows(fresh(state, CUTOFF_A))
        states += 1
    assert 1 < kept.built < states / 2  # it was kept, and rebuilt


def test_wrapped_positions_are_no_displacement():
    kept = VerletList(library_list(CPU))
    for state in trajectory(expand=False):
        wrapped = state.wrap_positions
        found = kept(wrapped, state.row_vector_cell, state.pbc, CUTOFF_A, state.system_idx)
        expected = library_list(CPU)(
            wrapped, state.row_vector_cell, state.pbc, torch.tensor(CUTOFF_A, dtype=torch.float64), state.system_idx
        )
        assert rows(found) == rows(expected)
    assert kept.built < 30


def test_the_order_does_not_depend_on_when_it_was_built():
    kept = VerletList(library_list(CPU))
    for number, state in enumerate(trajectory()):
        arguments = (state.wrap_positions, state.row_vector_cell, state.pbc, CUTOFF_A, state.system_idx)
        found = kept(*arguments)
        if number % 7 == 3:
            for old, new in zip(found, VerletList(library_list(CPU))(*arguments), strict=True):
                assert torch.equal(old, new)


def test_a_shorter_cutoff_uses_the_same_list_and_another_batch_does_not():
    kept = VerletList(library_list(CPU))
    state = next(trajectory())
    for cutoff in (CUTOFF_A, 2.9):
        found = kept(state.positions, state.row_vector_cell, state.pbc, cutoff, state.system_idx)
        assert rows(found) == rows(fresh(state, cutoff))
    assert kept.built == 1
    part = state[[0, 2]]
    found = kept(part.positions, part.row_vector_cell, part.pbc, CUTOFF_A, part.system_idx)
    assert rows(found) == rows(fresh(part, CUTOFF_A)) and kept.built == 2
    with pytest.raises(ValueError, match="periodic"):
        kept(part.positions, part.row_vector_cell, torch.tensor([True, True, False]), CUTOFF_A, part.system_idx)
