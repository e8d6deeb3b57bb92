"""Memory of a GPU: which members of a pack fit together, found with torch-sim's autobatching."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch_sim as ts
from ase import Atoms
from torch_sim.autobatching import (
    calculate_memory_scalers,
    estimate_max_memory_scaler,
    to_constant_volume_bins,
)

SHARE = 0.8
"""Share of what was found to fit that is used: neighbours come and go, and the integrator has memory of its own."""
GROWTH = 1.6
"""Factor between the batches that are tried."""


def groups(cells: Sequence[Atoms], replicas: int, model, device: torch.device, dtype: torch.dtype) -> list[list[int]]:
    """Numbers of the cells that are integrated together, as few groups as the memory of the device allows.

    Batches of the smallest and of the largest cell are evaluated, growing until the memory is full or holds all that is asked for;
    memory is taken to grow with atoms times density, which counts the neighbours. Once it was full, torch-sim goes back two steps of
    the growth: 30 to 50 % of the memory are then used.

    Args:
        cells: one of each member; all its replicas are integrated together.
        model: torch-sim model on that device.

    Returns:
        Groups in order of their first cell; on a CPU one group. A cell whose replicas do not fit alone is a group of its own.
    """
    if device.type == "cpu" or len(cells) < 2:
        return [list(range(len(cells)))]
    states = [ts.initialize_state([cell], device, dtype) for cell in cells]
    sizes = [calculate_memory_scalers(state)[0] for state in states]
    # The search may end one step short of the most atoms that it is allowed.
    sparsest = max(len(cell) / size for cell, size in zip(cells, sizes, strict=True))
    most = GROWTH * replicas * sum(sizes) / SHARE * sparsest
    limit = SHARE * estimate_max_memory_scaler(
        states, model, sizes, max_atoms=int(most) + max(map(len, cells)), scale_factor=GROWTH
    )
    bins = to_constant_volume_bins({k: replicas * size for k, size in enumerate(sizes)}, limit)
    return sorted(sorted(own) for own in bins)
