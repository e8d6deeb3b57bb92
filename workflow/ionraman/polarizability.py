"""Polarizability of periodic cells from an ensemble of physical models, MACE dielectric models, or both, in batches and resolved by species.

alpha = V/(4 pi) (eps_inf - 1), symmetric, in A^3 (conventions). A model folder stores, beside the weights of its members,
how labels were standardised: alpha = sum_i [b_i + mean(species_i) 1 + scale t_i] with t_i the tensor that the network books
on atom i and b_i that of the member's physical model (`ionraman.bonds`), where it has one (the network is fitted to what that one leaves), so that the total
is extensive and any batch can be summed by species.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from mace.tools.torch_tools import spherical_to_cartesian

from ionraman import modelfile
from ionraman.bonds import REACH_A, BondModel
from ionraman.convolution import fuse
from ionraman.digests import model_sha256
from ionraman.modelfile import ModelError
from ionraman.neighbours import pairs_within

TOLERANCE = 2e-4
"""Largest relative error of the symmetry checks in single precision."""


@dataclass(frozen=True)
class PolarizabilityModel:
    """Ensemble; each member is a set of parameters of the physical model, a network, or the sum of both.

    networks: AtomicDielectricMACE modules of one architecture, or none; physical: with one set for each member, or None.
    """

    path: Path
    sha256: str
    elements: list[str]
    networks: list[torch.nn.Module]
    means_A3: dict[str, float]
    scale_A3: float
    description: dict
    device: torch.device
    physical: BondModel | None = None
    dtype: torch.dtype = torch.float32

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.networks) or len(self.physical.parameters)

    @property
    def r_max(self) -> float:
        """Largest cutoff in A."""
        return max([float(network.r_max) for network in self.networks[:1]] + ([REACH_A] if self.physical else []))

    def double(self) -> PolarizabilityModel:
        """The same model in double precision; its networks are converted in place."""
        return dataclasses.replace(self, networks=[network.double() for network in self.networks], dtype=torch.float64)

    def predict(self, frames: Sequence[Atoms], batch_atoms: int = 1024) -> np.ndarray:
        """Polarizability of a list of configurations.

        Args:
            frames: configurations; they may differ in size and composition.
            batch_atoms: at most so many atoms are evaluated at once (at least one frame).

        Returns:
            (frames, models, species, 3, 3) in A^3; species in order of atomic number over all frames
            (`species_of(frames)`); the sum over that axis is the cell's polarizability.
        """
        species = species_of(frames)
        parts = []
        for batch in _batches(frames, batch_atoms):
            parts.append(self._evaluate(*_joined(batch), species))
        return np.concatenate(parts)

    def predict_trajectory(
        self, positions_A: np.ndarray, cell_A: np.ndarray, symbols: Sequence[str], batch_atoms: int = 1024
    ) -> np.ndarray:
        """The same for frames of one system: positions (frames, atoms, 3) and cell (3, 3) in A."""
        numbers = np.array([atomic_numbers[symbol] for symbol in symbols])
        species = sorted(set(symbols), key=atomic_numbers.get)
        size = max(1, batch_atoms // len(numbers))
        parts = []
        for start in range(0, len(positions_A), size):
            batch = positions_A[start : start + size]
            graph = np.repeat(np.arange(len(batch)), len(numbers))
            cells = np.broadcast_to(cell_A, (len(batch), 3, 3))
            parts.append(
                self._evaluate(batch.reshape(-1, 3), np.tile(numbers, len(batch)), graph, cells, species)
            )
        return np.concatenate(parts)

    def differentiable(self, frames: Sequence[Atoms]) -> torch.Tensor:
        """Total polarizability (frames, 3, 3) in A^3 of the first member, with gradients to its weights."""
        return self._tensors(*_joined(frames), species_of(frames))[:, 0].sum(dim=1)

    def _evaluate(self, positions, numbers, graph, cells, species: list[str]) -> np.ndarray:
        with torch.no_grad():
            return self._tensors(positions, numbers, graph, cells, species).double().cpu().numpy()

    def _tensors(self, positions, numbers, graph, cells, species: list[str]) -> torch.Tensor:
        missing = sorted({chemical_symbols[z] for z in numbers} - set(self.elements))
        if missing:
            raise ModelError(
                f"{self.path} does not cover {', '.join(missing)} (it covers {' '.join(self.elements)})."
            )
        dtype, count = self.dtype, len(cells)
        fractional = np.einsum("ai,aij->aj", positions, np.linalg.inv(cells)[graph])
        wrapped = np.einsum("ai,aij->aj", fractional - np.floor(fractional), cells[graph])
        position = torch.as_tensor(wrapped, dtype=dtype, device=self.device)
        cell = torch.as_tensor(np.array(cells), dtype=dtype, device=self.device)
        batch = torch.as_tensor(graph, dtype=torch.long, device=self.device)
        row = batch * len(species) + torch.as_tensor([species.index(chemical_symbols[z]) for z in numbers], device=self.device)
        means = torch.tensor([self.means_A3[symbol] for symbol in species], dtype=dtype, device=self.device)
        amounts = torch.bincount(row, minlength=count * len(species)).to(dtype)
        known = (amounts * means.repeat(count))[:, None, None] * torch.eye(3, dtype=dtype, device=self.device)
        known = known.expand(self.size, -1, -1, -1)
        edges, unit_shifts, shifts = pairs_within(position, cell, batch, self.r_max)
        if self.physical:
            vectors = position[edges[1]] - position[edges[0]] + shifts
            around = self.physical.surroundings(position, numbers, batch, cells, edges, vectors)
            known = known.index_add(1, row, self.physical.atomic(around))
        known = known.reshape(-1, count, len(species), 3, 3)
        if not self.networks:
            return known.transpose(0, 1)
        if self.physical:
            near = torch.nonzero((vectors**2).sum(dim=1) < float(self.networks[0].r_max) ** 2)[:, 0]
            edges, unit_shifts, shifts = edges[:, near], unit_shifts[near], shifts[near]
        table = {int(z): k for k, z in enumerate(self.networks[0].atomic_numbers)}
        kind = torch.as_tensor([table[int(z)] for z in numbers], device=self.device)
        pointer = torch.cat([batch.new_zeros(1), torch.bincount(batch, minlength=count).cumsum(0)])
        data = {
            "positions": position,
            "node_attrs": torch.nn.functional.one_hot(kind, len(table)).to(dtype),
            "edge_index": edges,
            "shifts": shifts,
            "unit_shifts": unit_shifts,
            "batch": batch,
            "ptr": pointer,
            "cell": cell,
            "total_charge": torch.zeros(count, dtype=dtype, device=self.device),
        }
        result = []
        for network, below in zip(self.networks, known, strict=True):
            spherical = _atomic_tensors(network, dict(data))
            summed = torch.zeros(count * len(species), 6, dtype=dtype, device=self.device)
            summed = summed.index_add(0, row, spherical)
            tensors = spherical_to_cartesian(summed, network.change_of_basis).reshape(
                count, len(species), 3, 3
            )
            result.append(below + self.scale_A3 * tensors)
        return torch.stack(result, dim=1)


def species_of(frames: Sequence[Atoms]) -> list[str]:
    """Symbols that occur in the frames, in order of atomic number: the species axis of `predict`."""
    return [chemical_symbols[z] for z in sorted({int(z) for atoms in frames for z in atoms.numbers})]


def load(
    path: Path | str, device: torch.device | str = "cpu", sha256: str | None = None
) -> PolarizabilityModel:
    """Load an ensemble from its model folder and check rotation, permutation and extensivity.

    Raises:
        ModelError: missing, damaged, of another class, with fewer than two members, or failing a symmetry check.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelError(
            f"The polarizability model {path} is not a model folder. Nothing is fetched: put the folder there, or name "
            "another in config/models.yaml."
        )
    found = model_sha256(path)
    if sha256 is not None and found != sha256:
        raise ModelError(f"{path} has SHA-256 {found}, but {sha256} was stated.")
    networks, description = modelfile.load(path)
    if description["class"] != "AtomicDielectricMACE":
        raise ModelError(f"{path} holds a {description['class']}, which gives no polarizability.")
    standard = description["standardisation"]
    model = PolarizabilityModel(
        path,
        found,
        description["elements"],
        [(fuse(network) if torch.device(device).type == "cpu" else network).to(device) for network in networks],
        standard["means_A3"],
        standard["scale_A3"],
        description,
        torch.device(device),
        BondModel.from_record(description["physical"]) if "physical" in description else None,
    )
    if model.physical and networks and len(networks) != len(model.physical.parameters):
        raise ModelError(f"{path} holds {len(networks)} networks and {len(model.physical.parameters)} physical models; each member has one of both.")
    if model.size < 2:
        raise ModelError(f"{path} holds one member; an ensemble of at least two is needed to state an error.")
    check_symmetries(model)
    return model


def check_symmetries(model: PolarizabilityModel) -> None:
    """Rotation, permutation, translation across the boundary and extensivity on a disordered cell of all elements.

    Raises:
        ModelError: names the check, the error and the tolerance.
    """
    rng = np.random.default_rng(7)
    symbols = (model.elements * 3)[: max(9, len(model.elements))]
    edge = 2.0 * model.r_max ** (1 / 3) * len(symbols) ** (1 / 3)
    grid = np.array(np.unravel_index(rng.permutation(27)[: len(symbols)], (3, 3, 3))).T
    atoms = Atoms(
        symbols, (grid + 0.3 * rng.random((len(symbols), 3))) * edge / 3, cell=np.eye(3) * edge, pbc=True
    )
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T
    moved = atoms.copy()
    moved.translate([0.37 * edge, 0.61 * edge, 0.83 * edge])
    cases = {"reference": atoms, "rotation": turned, "permutation": atoms[rng.permutation(len(atoms))]}
    cases |= {"translation": moved, "extensivity": atoms.repeat((2, 1, 1))}
    # The networks by themselves, so that neither a physical model nor a large constant can hide an error of theirs.
    for part in [model, dataclasses.replace(model, physical=None)] if model.physical and model.networks else [model]:
        _check(part, cases, rotation)


def _check(model: PolarizabilityModel, cases: dict[str, Atoms], rotation: np.ndarray) -> None:
    alpha = dict(zip(cases, model.predict(list(cases.values())).sum(axis=2), strict=True))
    reference = alpha.pop("reference")
    alpha["rotation"] = rotation.T @ alpha["rotation"] @ rotation
    alpha["extensivity"] = alpha["extensivity"] / 2
    constant = sum(model.means_A3[symbol] for symbol in cases["reference"].symbols) * np.eye(3)
    size = max(float(np.abs(reference - constant).max()), 1e-6)
    for name, value in alpha.items():
        error = float(np.abs(value - reference).max()) / size
        if not error < TOLERANCE:
            raise ModelError(
                f"{model.path} fails the check of {name}: relative error {error:.1e}, allowed {TOLERANCE:.0e}."
            )


def _atomic_tensors(network: torch.nn.Module, data: dict) -> torch.Tensor:
    """Atomic polarizabilities (atoms, 6) in the model's spherical basis.

    AtomicDielectricMACE returns only their sum; its readouts give, per atom, a charge, the isotropic part, a dipole
    and the five anisotropic components.
    """
    outputs: list[torch.Tensor] = []
    handles = [
        readout.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for readout in network.readouts
    ]
    try:
        network(data)
    finally:
        for handle in handles:
            handle.remove()
    node = torch.stack([output.squeeze(-1) for output in outputs]).sum(dim=0)
    return torch.cat([node[:, 1:2], node[:, 5:]], dim=1)


def _joined(frames: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions, atomic numbers, frame of each atom, and cells of a batch."""
    positions = np.concatenate([atoms.positions for atoms in frames])
    numbers = np.concatenate([atoms.numbers for atoms in frames])
    graph = np.repeat(np.arange(len(frames)), [len(atoms) for atoms in frames])
    return positions, numbers, graph, np.array([atoms.cell.array for atoms in frames])


def _batches(frames: Sequence[Atoms], batch_atoms: int) -> Iterator[list[Atoms]]:
    batch: list[Atoms] = []
    for atoms in frames:
        if batch and sum(map(len, batch)) + len(atoms) > batch_atoms:
            yield batch
            batch = []
        batch.append(atoms)
    if batch:
        yield batch
