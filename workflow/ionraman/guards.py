"""Limits that end a run as a result with a reason while it runs: blow-up."""

from __future__ import annotations

import torch
from ase.data import chemical_symbols, covalent_radii

OVERLAP = 0.7
"""Shortest allowed distance as a share of the sum of covalent radii (conventions, Molecular dynamics)."""

ALKALI_OVERLAP = 0.6
"""The same between two alkali ions, whose covalent radii (1.66 A for Na, Cordero et al. 2008) are those of the metal, far above the
ionic ones: in 24 frames of the teacher at 900 K two Na already come within 2.42 A, and 0.7 of the sum would be 2.32 A."""

ALKALI = (3, 11, 19, 37, 55)

HOT = 3.0
"""Highest allowed temperature as a multiple of the target."""


def blown_up(state, target_K: torch.Tensor, temperature_K: torch.Tensor, neighbours) -> dict[int, str]:
    """Systems of a batch that left the physical range, with the reason.

    Args:
        state: torch-sim MD state of S systems.
        target_K, temperature_K: (S,) target and instantaneous temperatures, K.
        neighbours: torch-sim neighbour-list function.
    """
    reasons: dict[int, str] = {}
    finite = torch.isfinite(state.energy) & torch.isfinite(temperature_K)
    for index in torch.nonzero(~finite).flatten().tolist():
        reasons[index] = "the energy became NaN"
    for index in torch.nonzero(temperature_K > HOT * target_K).flatten().tolist():
        reasons.setdefault(
            index,
            f"the temperature reached {temperature_K[index]:.0f} K, more than {HOT:g} times the target of "
            f"{target_K[index]:.0f} K",
        )
    if not torch.isfinite(state.positions).all():
        return reasons
    radii = torch.as_tensor(covalent_radii, device=state.device, dtype=state.dtype)[state.atomic_numbers]
    cutoff = 2 * OVERLAP * radii.max()
    pairs, system, shift = neighbours(
        state.wrap_positions, state.row_vector_cell, state.pbc, cutoff, state.system_idx
    )
    vector = state.wrap_positions[pairs[1]] - state.wrap_positions[pairs[0]]
    vector = vector + torch.einsum("pi,pij->pj", shift.to(state.dtype), state.row_vector_cell[system])
    share = vector.norm(dim=1) / (radii[pairs[0]] + radii[pairs[1]])
    alkali = torch.isin(state.atomic_numbers, torch.tensor(ALKALI, device=state.device))
    limit = torch.where(alkali[pairs[0]] & alkali[pairs[1]], ALKALI_OVERLAP, OVERLAP)
    for pair in torch.nonzero(share < limit).flatten().tolist():
        index = int(system[pair])
        reasons.setdefault(
            index,
            f"{_symbol(state, pairs[0][pair])} and {_symbol(state, pairs[1][pair])} came within "
            f"{vector[pair].norm():.2f} A, less than {limit[pair]:g} of the sum of their covalent radii",
        )
    return reasons


def _symbol(state, atom: torch.Tensor) -> str:
    return chemical_symbols[int(state.atomic_numbers[atom])]
