"""Physical model of the polarizability of ionic crystals, to teach a network what few labels cannot: anions with bonds in dipole fields.

Only anions are polarizable (with pseudopotentials that freeze the cations' cores, and nearly so in any case). The
polarizability of anion i depends on its neighbours j (bond polarizability model),

    alpha_i = a_Z 1 + sum_j sum_k phi_k(r_ij) [f_k 1 + h_k (r r^T / r^2 - 1/3)],

and each anion is driven by the macroscopic field E and by the fields of the induced dipoles of all others and their images,
e_i = E + sum_j T_ij alpha_j e_j, up to second order in T (dipole-induced dipole). T is the Ewald sum without its k = 0 term,
the response to the macroscopic field that the conventions ask for, damped at short distance after Thole (Chem. Phys. 59,
341, 1981): u = r/s, factors 1 - exp(-u^3) and 1 - (1 + u^3) exp(-u^3). The parameters a, f and h are fitted by
Gauss-Newton with a ridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from scipy.special import erfc

ANIONS = frozenset({"N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I"})
REACH_A = 6.5
"""Cutoff of the pair terms."""
DAMPING_A = 3.0
"""Length s of the damping of the dipole fields; 2.2 and 3.0 were alike in cross-validation, 2.0 diverged for some folds."""
ORDER = 2
"""Highest power of T; the closed form diverges where a fit makes an anion too soft."""
RIDGE = 3e-4
"""Weight of (parameter - prior)^2 per frame; between 1e-4 and 3e-3 in cross-validation no clear minimum."""
UNIT = np.eye(3)


def dipole_fields(positions_A: np.ndarray, cell_A: np.ndarray) -> np.ndarray:
    """Ewald sum of the dipole field tensor, without k = 0.

    Args:
        positions_A: (sites, 3); cell_A: (3, 3), rows are the vectors.

    Returns:
        (sites, 3, sites, 3) in A^-3: field at a site per dipole at another and at all its images.
    """
    volume = abs(np.linalg.det(cell_A))
    kappa = 1.6 * np.sqrt(np.pi) / volume ** (1 / 3)
    reach, highest = 4.25 / kappa, 8.4 * kappa
    inverse = np.linalg.inv(cell_A)
    difference = positions_A[None] - positions_A[:, None]
    # Site pairs may lie a whole cell apart, hence one image more.
    images = _lattice(np.ceil(reach * np.linalg.norm(inverse, axis=0)).astype(int) + 1) @ cell_A
    r = difference[None] + images[:, None, None]
    square = (r**2).sum(axis=-1)
    inside = (square > 1e-8) & (square < reach**2)
    square = np.where(inside, square, 1.0)
    distance = np.sqrt(square)
    gauss = 2 * kappa / np.sqrt(np.pi) * np.exp(-(kappa**2) * square)
    first = np.where(inside, (erfc(kappa * distance) / distance + gauss) / square, 0.0)
    second = np.where(
        inside, (3 * erfc(kappa * distance) / distance + gauss * (2 * kappa**2 * square + 3)) / square**2, 0.0
    )
    fields = np.einsum("mij,mija,mijb->iajb", second, r, r, optimize=True)
    fields -= np.einsum("ij,ab->iajb", first.sum(axis=0), UNIT)
    waves = _lattice(np.ceil(highest / (2 * np.pi) * np.linalg.norm(cell_A, axis=1)).astype(int)) @ (
        2 * np.pi * inverse.T
    )
    length = (waves**2).sum(axis=1)
    waves = waves[(length > 1e-8) & (length < highest**2)]
    length = (waves**2).sum(axis=1)
    weight = 4 * np.pi / volume * np.exp(-length / (4 * kappa**2)) / length
    phase = np.exp(1j * (positions_A @ waves.T))
    fields -= np.einsum(
        "ik,jk,ka,kb->iajb", phase, phase.conj() * weight, waves, waves, optimize=True
    ).real
    own = 4 * kappa**3 / (3 * np.sqrt(np.pi))
    for site in range(len(positions_A)):
        fields[site, :, site] += own * UNIT
    return fields


def _lattice(most: np.ndarray) -> np.ndarray:
    axes = [np.arange(-n, n + 1) for n in most]
    return np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).T


@dataclass(frozen=True)
class Design:
    """Frames with one number of sites: sites (frames, parameters, sites, 3, 3), fields (frames, 3 sites, 3 sites)."""

    sites: np.ndarray
    fields: np.ndarray


@dataclass
class PhysicalModel:
    """The model and its parameters.

    pairs: (anion, neighbour) to the length in A that its functions are centred at; bonded: those that are covalent bonds.
    """

    anions: list[str]
    pairs: dict[tuple[str, str], float]
    bonded: set[tuple[str, str]]
    parameters: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, frames: Sequence[Atoms]) -> PhysicalModel:
        """Terms for the pairs of species that occur; lengths are medians over anions of the nearest neighbour of that species.

        A pair is a bond where this is shorter than the sum of the covalent radii.
        """
        nearest: dict[tuple[str, str], list[float]] = {}
        for atoms in frames:
            symbols = np.array(atoms.get_chemical_symbols())
            first, second, distance = neighbor_list("ijd", atoms, REACH_A)
            for anion in set(symbols) & ANIONS:
                for other in set(symbols):
                    for site in np.flatnonzero(symbols == anion):
                        own = distance[(first == site) & (symbols[second] == other)]
                        if len(own):
                            nearest.setdefault((str(anion), str(other)), []).append(own.min())
        # The nearest of a centre that an anion is not bonded to is far away: the lower quartile is that of the bonds.
        pairs = {pair: float(np.quantile(values, 0.25)) for pair, values in sorted(nearest.items())}
        radius = {atoms.symbols[k]: covalent_radii[z] for atoms in frames for k, z in enumerate(atoms.numbers)}
        bonded = {pair for pair, length in pairs.items() if length < radius[pair[0]] + radius[pair[1]]}
        model = cls(sorted({pair[0] for pair in pairs}), pairs, bonded)
        model.parameters = model.prior()
        return model

    def functions(self, pair: tuple[str, str], distance_A: np.ndarray) -> list[np.ndarray]:
        """phi_k of a pair: up to the square of the stretch of a bond, exponentials of other pairs; all end smoothly."""
        length = self.pairs[pair]
        if pair in self.bonded:
            window = np.clip(1 - (distance_A / (1.9 * length)) ** 6, 0, None) ** 2
            stretch = distance_A - length
            return [window, window * stretch, window * stretch**2]
        window = np.clip(1 - (distance_A / REACH_A) ** 2, 0, None) ** 2
        decays = (0.5,) if pair[1] in ANIONS else (0.35, 0.8)
        return [np.exp(-(distance_A - length) / decay) * window for decay in decays]

    @property
    def columns(self) -> list[tuple[str, tuple[str, ...], int]]:
        """Kind ('a', 'f', 'h'), species and number of the function of each parameter."""
        names = [("a", (anion,), 0) for anion in self.anions]
        for pair in self.pairs:
            count = len(self.functions(pair, np.ones(1)))
            names += [(kind, pair, k) for kind in "fh" for k in range(count)]
        return names

    def prior(self) -> np.ndarray:
        """3 A^3 an anion, nothing from its neighbours."""
        return np.array([3.0 if kind == "a" else 0.0 for kind, _, _ in self.columns])

    def widths(self) -> np.ndarray:
        """Expected size of (parameter - prior); of bonds it is per A and per A^2 of their stretch."""
        return np.array(
            [1.5 if kind == "a" else (1.0, 3.0, 6.0)[k] if pair in self.bonded else 1.0 for kind, pair, k in self.columns]
        )  # fmt: skip

    def design(self, atoms: Atoms) -> Design:
        """What of a frame does not depend on the parameters (a batch of one)."""
        symbols = np.array(atoms.get_chemical_symbols())
        anions = np.flatnonzero(np.isin(symbols, list(ANIONS)))
        place = np.full(len(atoms), -1)
        place[anions] = np.arange(len(anions))
        columns = {name: k for k, name in enumerate(self.columns)}
        sites = np.zeros((len(columns), len(anions), 3, 3))
        for number, atom in enumerate(anions):
            sites[columns["a", (symbols[atom],), 0], number] = UNIT
        first, second, distance, vector = neighbor_list("ijdD", atoms, REACH_A)
        own = place[first] >= 0
        first, second, distance, vector = first[own], second[own], distance[own], vector[own]
        axis = vector / distance[:, None]
        anisotropic = axis[:, :, None] * axis[:, None, :] - UNIT / 3
        for pair in self.pairs:
            chosen = (symbols[first] == pair[0]) & (symbols[second] == pair[1])
            for k, value in enumerate(self.functions(pair, distance[chosen])):
                weight = value[:, None, None]
                np.add.at(sites[columns["f", pair, k]], place[first[chosen]], weight * UNIT)
                np.add.at(sites[columns["h", pair, k]], place[first[chosen]], weight * anisotropic[chosen])
        fields = dipole_fields(atoms.positions[anions], atoms.cell.array)
        near = place[second] >= 0
        i, j, r, d = place[first[near]], place[second[near]], vector[near], distance[near]
        cube = (d / DAMPING_A) ** 3
        outer = r[:, :, None] * r[:, None, :] / d[:, None, None] ** 5
        removed = np.exp(-cube)[:, None, None] * (
            3 * (1 + cube)[:, None, None] * outer - UNIT / d[:, None, None] ** 3
        )
        np.subtract.at(fields.transpose(0, 2, 1, 3), (i, j), removed)
        size = 3 * len(anions)
        return Design(sites[None], fields.reshape(1, size, size))

    def designs(self, frames: Sequence[Atoms]) -> list[tuple[np.ndarray, Design]]:
        """Batches of frames with the same number of anions, each with the places of its frames in the list."""
        single = [self.design(atoms) for atoms in frames]
        groups: dict[int, list[int]] = {}
        for k, design in enumerate(single):
            groups.setdefault(design.sites.shape[2], []).append(k)
        return [
            (np.array(own), Design(*(np.concatenate([getattr(single[k], name) for k in own]) for name in ("sites", "fields"))))
            for own in groups.values()
        ]  # fmt: skip

    def evaluate(self, design: Design, slopes: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Polarizabilities (frames, 3, 3) in A^3, and their derivatives (frames, parameters, 3, 3) if asked for."""
        frames, _, sites = design.sites.shape[:3]
        alpha = np.einsum("p,fpnab->fnab", self.parameters, design.sites, optimize=True)
        orders = [np.tile(UNIT, (frames, sites, 1)).reshape(frames, sites, 3, 3)]
        for _ in range(ORDER):
            dipoles = np.einsum("fnab,fnbe->fnae", alpha, orders[-1]).reshape(frames, 3 * sites, 3)
            orders.append((design.fields @ dipoles).reshape(frames, sites, 3, 3))
        total = sum(np.einsum("fnab,fnbe->fae", alpha, order) for order in orders)
        if not slopes:
            return total, None
        derivative = np.zeros((frames, len(self.parameters), 3, 3))
        for k, left in enumerate(orders):
            right = sum(orders[: ORDER + 1 - k])
            derivative += np.einsum("fnae,fpnab,fnbg->fpeg", left, design.sites, right, optimize=True)
        return total, derivative

    def predict(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Polarizabilities (frames, 3, 3) in A^3."""
        result = np.empty((len(frames), 3, 3))
        for own, design in self.designs(frames):
            result[own] = self.evaluate(design)[0]
        return result

    def fit(
        self,
        frames: Sequence[Atoms],
        alpha: np.ndarray,
        deviations: tuple[np.ndarray, np.ndarray],
        ridge: float = RIDGE,
        designs: list[tuple[np.ndarray, Design]] | None = None,
    ) -> PhysicalModel:
        """Fit the parameters to labels (frames, 3, 3) in A^3; errors count relative to the deviations of a and beta of each frame.

        deviations: from `ionraman.training.polarizability.thermal_deviation`; designs: from `designs(frames)`, if at hand.
        """
        designs = self.designs(frames) if designs is None else designs
        prior, width, damping = self.prior(), self.widths(), 1e-3
        pull = ridge * len(frames) / width**2

        def system(slopes: bool):
            cost, normal, gradient = 0.0, np.diag(pull), pull * (self.parameters - prior)
            for own, design in designs:
                value, derivative = self.evaluate(design, slopes)
                rest = _weighted(value - alpha[own], deviations[0][own], deviations[1][own])
                cost += (rest**2).sum()
                if slopes:
                    slope = _weighted(derivative, deviations[0][own][:, None], deviations[1][own][:, None])
                    normal = normal + np.einsum("fpr,fqr->pq", slope, slope, optimize=True)
                    gradient = gradient + np.einsum("fpr,fr->p", slope, rest)
            return cost + (pull * (self.parameters - prior) ** 2).sum(), normal, gradient

        for _ in range(60):
            cost, normal, gradient = system(True)
            before = self.parameters
            while damping < 1e6:
                self.parameters = before - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
                after = system(False)[0]
                if after < cost:
                    break
                damping *= 5
            else:
                self.parameters = before
                break
            damping = max(damping / 5, 1e-9)
            if after > (1 - 1e-5) * cost:
                break
        return self


def _weighted(tensor: np.ndarray, sd_a: np.ndarray, sd_beta: np.ndarray) -> np.ndarray:
    """(..., 10): isotropic part over sd_a, the nine components of the rest over sd_beta; that is the loss of the networks."""
    a = np.trace(tensor, axis1=-2, axis2=-1) / 3
    beta = (tensor - a[..., None, None] * UNIT) / sd_beta[..., None, None]
    return np.concatenate([(a / sd_a)[..., None], beta.reshape(*beta.shape[:-2], 9)], axis=-1)
