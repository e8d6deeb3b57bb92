"""Physical model of the polarizability of ionic crystals: anions with bond polarizabilities in one another's dipole fields.

Only anions are polarizable (with pseudopotentials that freeze the cations' cores, and nearly so in any case). The
polarizability of anion i depends on its neighbours j one by one (bond polarizability model) and two by two,

    alpha_i = a_Z 1 + sum_j sum_k phi_k(r_ij) [f_k 1 + h_k (u u^T - 1/3)] + products,    u = r/r,

where the products (`PRODUCTS`) are those of the multipoles of the neighbour density, rho = sum_j psi(r_ij), v = sum_j psi(r_ij) u,
q = sum_j psi(r_ij) (u u^T - 1/3) and o = sum_j psi(r_ij) (u u u - traces), of one species of neighbour with those of the same or another,
psi the first two of the phi. v o is what makes an anion without a centre of inversion Raman active in first order. What is too far for the
phi acts by its charge: the potential of all ions, its gradient, and so on (`ionraman.coulomb`) are the multipoles of one more density, so that
the products with it are hyperpolarizabilities times the field. And each anion is driven by the macroscopic field E and by the fields of the induced dipoles of all others and their images,
e_i = E + sum_j T_ij alpha_j e_j, up to second order in T (dipole-induced dipole), with T of `ionraman.dipoles`. The parameters
a, f, h and those of the products are fitted by `ionraman.training.physical`; networks learn what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from ionraman import coulomb
from ionraman.dipoles import DipoleFields
from ionraman.modelfile import ModelError
from ionraman.neighbours import pairs_within

ANIONS = frozenset({"N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I"})
REACH_A = 6.0
"""Cutoff of the pair terms."""
ORDER = 2
"""Highest power of T; the closed form diverges where a fit makes an anion too soft."""

MULTIPOLES = ("rho", "v", "q", "o")
"""Of ranks 0 to 3."""
PRODUCTS = {
    ("rho", "rho"): "nx,nx->n",
    ("v", "v"): "nxa,nxa->n",
    ("rho", "q"): "nx,nxab->nab",
    ("v", "v", "traceless"): "nxa,nxb->nab",
    ("v", "o"): "nxa,nxabc->nbc",
}
"""Factors of a product and its sum over densities x at sites n; q q, o o and products with l = 4 made no difference in cross-validation."""

FORM = 4
"""Version of the functions, cutoffs, damping and orders, which a model file relies on; raised when one of them changes."""

Pair = tuple[str, str]


@dataclass
class BondModel:
    """Terms and parameters.

    pairs: (anion, neighbour) to the length in A that its functions are centred at; bonded: those that are covalent bonds;
    parameters: (sets, parameters) in the order of `columns` and `products`, in A^3; several sets are members of an ensemble; charges: formal
    charges in e of the species, none of one that is not known.
    """

    anions: list[str]
    pairs: dict[Pair, float]
    bonded: set[Pair]
    parameters: np.ndarray = field(default_factory=lambda: np.zeros((1, 0)))
    charges: dict[str, float] = field(default_factory=dict)

    @cached_property
    def places(self) -> dict[Pair, slice]:
        """Where the functions of each pair stand among those of all pairs."""
        found, start = {}, 0
        for pair in self.pairs:
            stop = start + len(self.functions(pair, torch.ones(1)))
            found[pair], start = slice(start, stop), stop
        return found

    @cached_property
    def distant(self) -> dict[str, int]:
        """Where the density of the charges stands, of each anion: after the functions of all pairs; nowhere where no charges are known."""
        first = sum(place.stop - place.start for place in self.places.values())
        return {anion: number for number, anion in enumerate(self.anions, first)} if self.charges else {}

    @cached_property
    def columns(self) -> list[tuple[str, tuple[str, ...], int]]:
        """Kind ('a', 'f', 'h'), species and number of the function (of all, -1 for a) of each parameter but those of the products."""
        names = [("a", (anion,), -1) for anion in self.anions]
        for pair, place in self.places.items():
            names += [(kind, pair, k) for kind in "fh" for k in range(place.start, place.stop)]
        return names + [(kind, (anion,), k) for anion, k in self.distant.items() for kind in "fh"]

    @cached_property
    def products(self) -> list[tuple[tuple[str, ...], int, int]]:
        """Kind (of `PRODUCTS`) and both functions psi, of one anion, of each of the other parameters."""
        densities = [(pair[0], k) for pair, place in self.places.items() for k in range(place.start, place.start + 2)]
        densities += list(self.distant.items())
        return [
            (kind, x, y)
            for first, x in densities
            for second, y in densities
            if first == second
            for kind in PRODUCTS
            if x <= y or kind[0] != kind[1]
        ]

    @cached_property
    def layout(self) -> dict[tuple[str, ...], tuple[torch.Tensor, ...]]:
        """Of ('f',), ('h',) and each kind of product: numbers of its parameters, and of the functions that they weigh (x, or x and y)."""
        rows: dict[tuple[str, ...], list] = {kind: [] for kind in (("f",), ("h",), *PRODUCTS)}
        for number, (kind, _, k) in enumerate(self.columns):
            if kind != "a":
                rows[kind,].append((number, k))
        for number, (kind, x, y) in enumerate(self.products, len(self.columns)):
            rows[kind].append((number, x, y))
        width = {kind: 2 if len(kind) == 1 else 3 for kind in rows}
        return {kind: tuple(torch.tensor(row, dtype=torch.long).reshape(-1, width[kind]).T) for kind, row in rows.items()}

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.columns) + len(self.products)

    def functions(self, pair: Pair, distance_A: torch.Tensor) -> list[torch.Tensor]:
        """phi_k of a pair: up to the square of the stretch of a bond, exponentials of other pairs; all end smoothly."""
        length = self.pairs[pair]
        if pair in self.bonded:
            window = (1 - (distance_A / min(1.9 * length, REACH_A)) ** 6).clamp(min=0) ** 2
            stretch = distance_A - length
            return [window, window * stretch, window * stretch**2]
        window = (1 - (distance_A / REACH_A) ** 2).clamp(min=0) ** 2
        decays = (0.5, 0.8) if pair[1] in ANIONS else (0.35, 0.8)
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
        charge = positions_A.new_tensor([self.charges.get(symbol, 0.0) for symbol in symbols])
        distant = coulomb.multipoles(positions_A, charge, graph, cells_A) if self.charges else {}
        distant = {name: values[sites] for name, values in distant.items()}
        return Surroundings(
            self, kind, sites, place[pairs[0]], kind[sites][place[pairs[0]]], kind[pairs[1]], vectors, distance, distant, fields
        )

    def atomic(self, around: Surroundings) -> torch.Tensor:
        """(sets, atoms, 3, 3) in A^3: contributions of the anions, symmetric; zero for all other atoms."""
        alpha = around.weighted(self.parameters)
        sets, sites = alpha.shape[:2]
        total = driving = torch.eye(3, dtype=alpha.dtype, device=alpha.device).expand(sets, sites, 3, 3)
        for _ in range(ORDER):
            dipoles = (alpha @ driving).permute(1, 2, 0, 3).reshape(sites, 3, 3 * sets)
            driving = around.fields.of(dipoles).reshape(sites, 3, sets, 3).permute(2, 0, 1, 3)
            total = total + driving
        tensor = alpha @ total
        result = alpha.new_zeros(sets, len(around.kinds), 3, 3)
        result[:, around.sites] = (tensor + tensor.transpose(2, 3)) / 2
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
        """Polarizabilities (frames, sets, 3, 3) in A^3."""
        found = [self.atomic(self.around([atoms])).sum(dim=1).numpy() for atoms in frames]
        return np.array(found).reshape(-1, len(self.parameters), 3, 3)

    def record(self) -> dict:
        """As JSON, for a model file."""
        return {
            "form": FORM,
            "pairs": [[*pair, length, pair in self.bonded] for pair, length in self.pairs.items()],
            "anions": self.anions,
            "charges": self.charges,
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
        return cls(record["anions"], pairs, bonded, np.array(record["parameters_A3"]), record["charges"])


@dataclass(frozen=True)
class Surroundings:
    """A batch of cells as a `BondModel` sees it.

    kinds: (atoms,) atomic numbers; sites: (anions,) their atoms; site, own, other, vectors_A, distance_A: of each pair the anion (a number
    of a site), both atomic numbers, the way to the neighbour; distant: `coulomb.multipoles` at the sites; fields: of the anions' dipoles.
    """

    model: BondModel
    kinds: torch.Tensor
    sites: torch.Tensor
    site: torch.Tensor
    own: torch.Tensor
    other: torch.Tensor
    vectors_A: torch.Tensor
    distance_A: torch.Tensor
    distant: dict[str, torch.Tensor]
    fields: DipoleFields

    @cached_property
    def sums(self) -> dict[str, torch.Tensor]:
        """rho (sites, functions), v, q and o, with one, two and three more axes of 3, of all functions of the model and of the charges."""
        model = self.model
        count = sum(place.stop - place.start for place in model.places.values()) + len(model.distant)
        found = {name: self.vectors_A.new_zeros(len(self.sites), count, *rank * (3,)) for rank, name in enumerate(MULTIPOLES)}
        for pair, place in model.places.items():
            own, other = (chemical_symbols.index(symbol) for symbol in pair)
            chosen = torch.nonzero((self.own == own) & (self.other == other))[:, 0]
            distance, site = self.distance_A[chosen], self.site[chosen]
            axis = self.vectors_A[chosen] / distance[:, None]
            values = torch.stack(model.functions(pair, distance), dim=1)
            for rank, name in enumerate(MULTIPOLES):
                shape = coulomb.traceless(axis, rank)
                part = values.reshape(*values.shape, *(1,) * (shape.ndim - 1)) * shape[:, None]
                found[name][:, place] = torch.zeros_like(found[name][:, place]).index_add(0, site, part)
        for anion, k in model.distant.items():
            for name, values in self.distant.items():
                found[name][:, k] = values * self._are(anion).reshape(-1, *(1,) * (values.ndim - 1))
        return found

    def weighted(self, parameters: np.ndarray) -> torch.Tensor:
        """Polarizabilities (sets, sites, 3, 3) in A^3 of the anions without the fields of the others, for parameters (sets, parameters)."""
        values = torch.as_tensor(parameters, dtype=self.vectors_A.dtype, device=self.vectors_A.device)
        count = self.sums["rho"].shape[1]
        weights = {}
        for kind, (numbers, *places) in self.model.layout.items():
            weights[kind] = values.new_zeros(len(values), *len(places) * (count,))
            weights[kind][:, *places] = values[:, numbers]
        size = weights["f",] @ self.sums["rho"].T
        for number, anion in enumerate(self.model.anions):
            size = size + values[:, number, None] * self._are(anion)
        alpha = size[..., None, None] * self._unit + torch.einsum("mk,nkab->mnab", weights["h",], self.sums["q"])
        for kind in PRODUCTS:
            left, right = (self.sums[name] for name in kind[:2])
            for member, weight in zip(alpha, weights[kind], strict=True):
                member += self._product(kind, torch.einsum("nx...,xy->ny...", left, weight), right)
        return alpha

    def basis(self) -> torch.Tensor:
        """(parameters, sites, 3, 3): their derivatives."""
        basis = self.vectors_A.new_zeros(self.model.size, len(self.sites), 3, 3)
        for number, (kind, species, k) in enumerate(self.model.columns):
            size = self._are(species[0]) if kind == "a" else self.sums["rho"][:, k]
            basis[number] = self.sums["q"][:, k] if kind == "h" else size[:, None, None] * self._unit
        for number, (kind, x, y) in enumerate(self.model.products, len(self.model.columns)):
            left, right = (self.sums[name] for name in kind[:2])
            basis[number] = self._product(kind, left[:, x : x + 1], right[:, y : y + 1])
        return basis

    def _are(self, anion: str) -> torch.Tensor:
        """(sites,) 1 where a site is of this species."""
        return (self.kinds[self.sites] == chemical_symbols.index(anion)).to(self.vectors_A.dtype)

    @cached_property
    def _unit(self) -> torch.Tensor:
        return torch.eye(3, dtype=self.vectors_A.dtype, device=self.vectors_A.device)

    def _product(self, kind: tuple[str, ...], left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(sites, 3, 3): the product, summed over densities that stand in both at the same place; symmetric and traceless or isotropic."""
        value = torch.einsum(PRODUCTS[kind], left, right)
        if value.ndim == 1:
            return value[:, None, None] * self._unit
        value = (value + value.transpose(1, 2)) / 2
        return value - value.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] * self._unit
