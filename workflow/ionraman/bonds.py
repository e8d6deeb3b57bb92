"""Physical model of the polarizability of ionic crystals: anions with bond polarizabilities in one another's dipole fields.

Only anions are polarizable (with pseudopotentials that freeze the cations' cores, and nearly so in any case). The
polarizability of anion i depends on its neighbours j (bond polarizability model),

    alpha_i = a_Z 1 + sum_j sum_k phi_k(r_ij) [f_k 1 + h_k (r r^T / r^2 - 1/3)],

and each anion is driven by the macroscopic field E and by the fields of the induced dipoles of all others and their images,
e_i = E + sum_j T_ij alpha_j e_j, up to second order in T (dipole-induced dipole), with T of `ionraman.dipoles`. The parameters
a, f and h are fitted by `ionraman.training.physical`; networks learn what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from ionraman.dipoles import DipoleFields
from ionraman.modelfile import ModelError
from ionraman.neighbours import pairs_within

ANIONS = frozenset({"N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I"})
REACH_A = 6.0
"""Cutoff of the pair terms."""
ORDER = 2
"""Highest power of T; the closed form diverges where a fit makes an anion too soft."""

FORM = 1
"""Version of the functions, cutoffs, damping and orders, which a model file relies on; raised when one of them changes."""

Pair = tuple[str, str]


@dataclass
class BondModel:
    """Terms and parameters.

    pairs: (anion, neighbour) to the length in A that its functions are centred at; bonded: those that are covalent bonds;
    parameters: in the order of `columns`, in units of A^3.
    """

    anions: list[str]
    pairs: dict[Pair, float]
    bonded: set[Pair]
    parameters: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @cached_property
    def columns(self) -> list[tuple[str, tuple[str, ...], int]]:
        """Kind ('a', 'f', 'h'), species and number of the function of each parameter."""
        names = [("a", (anion,), 0) for anion in self.anions]
        for pair in self.pairs:
            count = len(self.functions(pair, torch.ones(1)))
            names += [(kind, pair, k) for kind in "fh" for k in range(count)]
        return names

    def functions(self, pair: Pair, distance_A: torch.Tensor) -> list[torch.Tensor]:
        """phi_k of a pair: up to the square of the stretch of a bond, exponentials of other pairs; all end smoothly."""
        length = self.pairs[pair]
        if pair in self.bonded:
            window = (1 - (distance_A / min(1.9 * length, REACH_A)) ** 6).clamp(min=0) ** 2
            stretch = distance_A - length
            return [window, window * stretch, window * stretch**2]
        window = (1 - (distance_A / REACH_A) ** 2).clamp(min=0) ** 2
        decays = (0.5,) if pair[1] in ANIONS else (0.35, 0.8)
        return [torch.exp(-(distance_A - length) / decay) * window for decay in decays]

    def surroundings(
        self, positions_A: torch.Tensor, numbers: np.ndarray, graph: torch.Tensor, cells_A: np.ndarray, pairs: torch.Tensor,
        vectors_A: torch.Tensor,
    ) -> Surroundings:  # fmt: skip
        """What of a batch of cells does not depend on the parameters.

        Args:
            positions_A: (atoms, 3) of all cells, one cell after the other; numbers: atomic numbers; graph: cell of each atom.
            cells_A: (cells, 3, 3), rows are the vectors.
            pairs: (2, pairs) atoms i and j, both directions and all images within `REACH_A` (longer ones are left out).
            vectors_A: (pairs, 3) from i to j.
        """
        device = positions_A.device
        symbols = np.array(chemical_symbols)[numbers]
        anion = torch.as_tensor(np.isin(symbols, list(ANIONS)), device=device)
        sites = torch.nonzero(anion)[:, 0]
        place = torch.full((len(anion),), -1, dtype=torch.long, device=device)
        place[sites] = torch.arange(len(sites), device=device)
        distance = (vectors_A**2).sum(dim=1).sqrt()
        used = torch.nonzero(anion[pairs[0]] & (distance < REACH_A))[:, 0]
        pairs, vectors, distance = pairs[:, used], vectors_A[used], distance[used]
        among = torch.nonzero(anion[pairs[1]])[:, 0]
        fields = DipoleFields(
            positions_A[sites], graph[sites], cells_A, place[pairs[:, among]], vectors[among], REACH_A
        )
        kind = torch.as_tensor(numbers, device=device)
        return Surroundings(self, kind, sites, place[pairs[0]], kind[sites][place[pairs[0]]], kind[pairs[1]], vectors, distance, fields)

    def atomic(self, around: Surroundings) -> torch.Tensor:
        """(atoms, 3, 3) in A^3: contributions of the anions, symmetric; zero for all other atoms."""
        alpha = around.weighted(self.parameters)
        driving = torch.eye(3, dtype=alpha.dtype, device=alpha.device).expand(len(alpha), 3, 3)
        total = driving
        for _ in range(ORDER):
            driving = around.fields.of(alpha @ driving)
            total = total + driving
        tensor = alpha @ total
        result = torch.zeros(len(around.kinds), 3, 3, dtype=alpha.dtype, device=alpha.device)
        result[around.sites] = (tensor + tensor.transpose(1, 2)) / 2
        return result

    def around(self, frames: Sequence[Atoms]) -> Surroundings:
        """Surroundings in a list of configurations, in double precision."""
        numbers = np.concatenate([atoms.numbers for atoms in frames])
        graph = torch.as_tensor(np.repeat(np.arange(len(frames)), [len(atoms) for atoms in frames]))
        positions = torch.as_tensor(np.concatenate([atoms.get_positions(wrap=True) for atoms in frames]))
        cells = np.array([atoms.cell.array for atoms in frames])
        pairs, _, shifts = pairs_within(positions, torch.as_tensor(cells), graph, REACH_A)
        return self.surroundings(positions, numbers, graph, cells, pairs, positions[pairs[1]] - positions[pairs[0]] + shifts)

    def predict(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Polarizabilities (frames, 3, 3) in A^3."""
        return np.array([self.atomic(self.around([atoms])).sum(dim=0).numpy() for atoms in frames]).reshape(-1, 3, 3)

    def record(self) -> dict:
        """As JSON, for a model file."""
        return {
            "form": FORM,
            "pairs": [[*pair, length, pair in self.bonded] for pair, length in self.pairs.items()],
            "anions": self.anions,
            "parameters_A3": self.parameters.tolist(),
        }

    @classmethod
    def from_record(cls, record: dict) -> BondModel:
        """Inverse of `record`.

        Raises:
            ModelError: it was made with other functions than those of this version.
        """
        if record["form"] != FORM:
            raise ModelError(
                f"The physical model was written in form {record['form']}; this version knows form {FORM}. Train the model again."
            )
        pairs = {(first, second): length for first, second, length, _ in record["pairs"]}
        bonded = {(first, second) for first, second, _, bond in record["pairs"] if bond}
        return cls(record["anions"], pairs, bonded, np.array(record["parameters_A3"]))


@dataclass(frozen=True)
class Surroundings:
    """A batch of cells as a `BondModel` sees it.

    kinds: (atoms,) atomic numbers; sites: (anions,) their atoms; site, own, other, vectors_A, distance_A: of each pair the anion (a number
    of a site), both atomic numbers, the way to the neighbour; fields: of the anions' dipoles.
    """

    model: BondModel
    kinds: torch.Tensor
    sites: torch.Tensor
    site: torch.Tensor
    own: torch.Tensor
    other: torch.Tensor
    vectors_A: torch.Tensor
    distance_A: torch.Tensor
    fields: DipoleFields

    def terms(self):
        """(column, sites, tensors): what one of the columns' functions gives to which sites, (n, 3, 3) each."""
        unit = torch.eye(3, dtype=self.vectors_A.dtype, device=self.vectors_A.device)
        for number, (kind, species, k) in enumerate(self.model.columns):
            own = chemical_symbols.index(species[0])
            if kind == "a":
                chosen = torch.nonzero(self.kinds[self.sites] == own)[:, 0]
                yield number, chosen, unit.expand(len(chosen), 3, 3)
                continue
            if kind == "f" and k == 0:
                chosen = torch.nonzero((self.own == own) & (self.other == chemical_symbols.index(species[1])))[:, 0]
                distance, vectors = self.distance_A[chosen], self.vectors_A[chosen]
                values = self.model.functions(species, distance)
                axis = vectors / distance[:, None]
                shapes = {"f": unit.expand(len(chosen), 3, 3), "h": axis[:, :, None] * axis[:, None, :] - unit / 3}
            yield number, self.site[chosen], values[k][:, None, None] * shapes[kind]

    def weighted(self, parameters: np.ndarray) -> torch.Tensor:
        """Polarizabilities (sites, 3, 3) in A^3 of the anions without the fields of the others."""
        alpha = torch.zeros(len(self.sites), 3, 3, dtype=self.vectors_A.dtype, device=self.vectors_A.device)
        for number, sites, tensors in self.terms():
            alpha.index_add_(0, sites, float(parameters[number]) * tensors)
        return alpha

    def basis(self) -> torch.Tensor:
        """(parameters, sites, 3, 3): their derivatives."""
        shape = (len(self.model.columns), len(self.sites), 3, 3)
        basis = torch.zeros(shape, dtype=self.vectors_A.dtype, device=self.vectors_A.device)
        for number, sites, tensors in self.terms():
            basis[number].index_add_(0, sites, tensors)
        return basis
