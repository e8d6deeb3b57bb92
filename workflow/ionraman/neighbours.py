"""Neighbour lists: that of a library, and one that is kept over many steps of a trajectory (Verlet, Phys. Rev. 159, 98, 1967)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

SKIN_A = 1.0
"""Reach of a kept list beyond the cutoff; with 0.6, 1.0 and 1.4 A the share of a step outside the model was the same, 14-17 % (800 K, CPU)."""

Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(2, n) atoms; (n,) their system; (n, 3) lattice vectors between their cells, in the type of the positions."""


def library_list(device: torch.device) -> Callable[..., Pairs]:
    """Fastest neighbour list of torch-sim on a device: vesin on the CPU, its default on a GPU."""
    from torch_sim import neighbors

    return neighbors.vesin_nl_ts if device.type == "cpu" else neighbors.torchsim_nl


def pairs_within(
    positions_A: torch.Tensor, cells_A: torch.Tensor, graph: torch.Tensor, cutoff_A: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs (2, n) of a batch of periodic cells, lattice vectors (n, 3) between their cells, and these in A.

    positions_A: (atoms, 3) inside their cells; graph: (atoms,) cell of each; cells_A: (cells, 3, 3).
    """
    cutoff = torch.tensor(cutoff_A, dtype=positions_A.dtype, device=positions_A.device)
    periodic = torch.ones(len(cells_A), 3, dtype=torch.bool, device=positions_A.device)
    pairs, system, shifts = library_list(positions_A.device)(positions_A, cells_A, periodic, cutoff, graph)
    shifts = shifts.to(positions_A.dtype)
    return pairs, shifts, torch.einsum("ei,eij->ej", shifts, cells_A[system])


@dataclass(frozen=True)
class _Kept:
    """A list as it was built: its cutoff with the skin, the fractional positions and cells of that moment, atoms' systems."""

    reach: float
    fractional: torch.Tensor
    cell: torch.Tensor
    system: torch.Tensor
    pairs: torch.Tensor
    shifts: torch.Tensor


class VerletList:
    """Neighbour list in the form of torch-sim's, rebuilt only when an atom may have come within the cutoff unseen.

    Of the kept pairs those within the cutoff are returned, ordered by both atoms and by image: neither the set nor the order depends on
    when the list was built, so a trajectory that goes on from a checkpoint is bit for bit the same.

    Args:
        build: neighbour list of a library.
        skin_A: reach of the kept list beyond the cutoff.
    """

    def __init__(self, build: Callable[..., Pairs], skin_A: float = SKIN_A) -> None:
        self.build, self.skin_A, self.kept, self.built = build, skin_A, None, 0

    def __call__(
        self,
        positions: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        cutoff: float | torch.Tensor,
        system_idx: torch.Tensor,
        self_interaction: bool = False,
    ) -> Pairs:
        """Pairs within the cutoff; positions (atoms, 3) and cell (systems, 3, 3) in A, all boundaries periodic.

        Raises:
            ValueError: a boundary is not periodic, or pairs of an atom with itself are asked for.
        """
        cutoff = float(cutoff)
        if self_interaction or not bool(torch.as_tensor(pbc).all()):
            raise ValueError("A kept neighbour list is for periodic crystals, without pairs of an atom with itself.")
        fractional = torch.bmm(torch.linalg.inv(cell)[system_idx].transpose(1, 2), positions[:, :, None])[:, :, 0]
        wrapped = self._wrapped_since(fractional, cell, cutoff, system_idx)
        if wrapped is None:
            self._rebuild(positions, fractional, cell, pbc, cutoff, system_idx)
            wrapped = torch.zeros_like(fractional)
        first, second = self.kept.pairs
        shifts = self.kept.shifts + wrapped[first] - wrapped[second]
        system = system_idx[first]
        vector = positions[second] - positions[first] + torch.bmm(shifts[:, None], cell[system])[:, 0]
        near = torch.nonzero((vector * vector).sum(dim=1) < cutoff * cutoff)[:, 0]
        return self.kept.pairs[:, near], system[near], shifts[near]

    def _wrapped_since(
        self, fractional: torch.Tensor, cell: torch.Tensor, cutoff: float, system: torch.Tensor
    ) -> torch.Tensor | None:
        """Lattice vectors that the atoms were wrapped by since the list was built; None where it does not serve."""
        kept = self.kept
        if kept is None or cutoff + self.skin_A > kept.reach or not torch.equal(system, kept.system):
            return None
        moved = fractional - kept.fractional
        wrapped = torch.round(moved)
        moved = torch.bmm((moved - wrapped)[:, None], cell[system])[:, 0]
        # A distance d of atoms at rest changes by at most d |h0^-1 h - 1|; both ends may move.
        strain = torch.linalg.solve(kept.cell, cell) - torch.eye(3, dtype=cell.dtype, device=cell.device)
        change = kept.reach * strain.square().sum(dim=(1, 2)).max().sqrt() + 2 * moved.square().sum(dim=1).max().sqrt()
        return wrapped if bool(change < kept.reach - cutoff) else None

    def _rebuild(self, positions, fractional, cell, pbc, cutoff: float, system: torch.Tensor) -> None:
        reach = cutoff + self.skin_A
        pairs, _, shifts = self.build(
            positions, cell, pbc, torch.as_tensor(reach, dtype=positions.dtype, device=positions.device), system
        )
        image = torch.round(shifts).long()
        most = int(image.abs().max()) if len(image) else 0
        width, atoms = 2 * most + 1, len(positions)
        code = ((image[:, 0] + most) * width + image[:, 1] + most) * width + image[:, 2] + most
        order = torch.argsort((pairs[0] * atoms + pairs[1]) * width**3 + code)
        self.kept = _Kept(
            reach, fractional.clone(), cell.clone(), system.clone(), pairs[:, order], image[order].to(positions.dtype)
        )
        self.built += 1
