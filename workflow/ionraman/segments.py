"""Frames of a batch between two checkpoints, which become one segment of the trajectory of each member."""

from __future__ import annotations

import numpy as np
import torch
import torch_sim as ts

from ionraman.protocol import Member, Protocol
from ionraman.trajectory import SegmentStore, trajectory_store


class Frames:
    """Collects the frames of a batch and writes them.

    Args:
        members: of the batch; digests: their fingerprints, kept in the segments.
        protocol: of the run.
        device: name of the device, kept in the segments.
    """

    def __init__(self, members: list[Member], digests: list[str], protocol: Protocol, device: str) -> None:
        self.members, self.digests, self.protocol, self.device = members, digests, protocol, device
        self.stores: list[SegmentStore] = [trajectory_store(member.folder) for member in members]
        self.begin(0)

    def begin(self, first_frame: int) -> None:
        """The next frame is number `first_frame`; what was collected is dropped."""
        self.first_frame = first_frame
        self.collected: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, positions_A: torch.Tensor, energy_eV: torch.Tensor, temperature_K: torch.Tensor) -> None:
        """Take one frame: positions (atoms of all systems, 3), total energies and temperatures (systems,)."""
        self.collected.append(
            (
                positions_A.to(torch.float32).cpu().numpy().copy(),
                energy_eV.double().cpu().numpy(),
                temperature_K.double().cpu().numpy(),
            )
        )

    def write(self, alive: list[int], cells_A: list, system_idx: np.ndarray) -> None:
        """Write what was collected; nothing where there is none.

        Args:
            alive: the members in the batch, by their place among all.
            cells_A: (3, 3) cell of production of each of them, A.
            system_idx: system of every atom; the replicas of a member follow one another.
        """
        if not self.collected:
            return
        replicas = self.protocol.replicas
        positions, energies, temperatures = (np.array(part) for part in zip(*self.collected, strict=True))
        for position, (index, cell_A) in enumerate(zip(alive, cells_A, strict=True)):
            member = self.members[index]
            chosen = (system_idx // replicas) == position
            own = positions[:, chosen].reshape(len(positions), replicas, len(member.atoms), 3).swapaxes(0, 1)
            systems = slice(position * replicas, (position + 1) * replicas)
            metadata = {
                "species": member.atoms.get_chemical_symbols(),
                "masses_u": member.atoms.get_masses().tolist(),
                "mobile": member.mobile,
                "cell_A": cell_A,
                "temperature_K": member.temperature_K,
                "timestep_fs": self.protocol.timestep_fs,
                "sampling_fs": self.protocol.sampling_fs,
                "seed": self.protocol.seed,
                "digest": self.digests[index],
                "versions": {"torch": torch.__version__, "torch_sim": ts.__version__},
                "device": self.device,
            }
            arrays = {
                "positions_A": np.ascontiguousarray(own),
                "energy_eV": energies[:, systems].T,
                "temperature_K": temperatures[:, systems].T,
            }
            self.stores[index].append(self.first_frame, arrays, metadata)
        self.begin(self.first_frame + len(positions))
