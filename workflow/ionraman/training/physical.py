"""Fit of the physical model (`ionraman.bonds`) to labels and Raman tensors, by Gauss-Newton with a ridge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from ionraman.bonds import ANIONS, ORDER, PRODUCTS, REACH_A, BondModel
from ionraman.charges import first_state
from ionraman.units import KB_EV

RIDGE = 0.003
"""Weight of ((parameter - prior) / width)^2 beside the squared errors, which are in units of the thermal deviations; 0.003 and 0.01 were
alike in cross-validation, and single ions and soft modes of Na3PS4 were met better with this."""

PRODUCT_A3 = {True: 0.12, False: 0.17}
"""Expected size of what a product of densities, isotropic or not, gives to a cell's fluctuations, in A^3; by cross-validation."""
STILL = 0.1
"""Fluctuation of a product below which its width no longer grows: what hardly moves in the labels may move elsewhere."""

USUAL_K = 600.0
"""Temperature at which errors count by the thermal deviation as it is, and of frames that state none."""
COLDEST_K = 100.0
"""Colder frames count as this one: what a label itself is off by does not fall with temperature."""

TENSOR_LABELS = 20.0
"""The Raman tensors of a cell count as so many labels of it: 48 thermal modes of 16 ions are worth more than one frame, in which all move; 60 was
worse in cross-validation."""
FARTHEST_A = 0.4
"""Root mean square displacement at `USUAL_K` of the softest and of the unstable modes of a hot cell, which have no harmonic one."""
STEP_A = 0.01
"""Displacement of the central differences that tensors are compared with."""


def terms_of(frames: Sequence[Atoms]) -> BondModel:
    """Model with terms for the pairs of species that occur, and the parameters of `prior`.

    Lengths are lower quartiles of the distance to the nearest neighbour, over the anions or over the other species, whichever is shorter: of
    few centres most anions have none for a neighbour. A pair is a bond where this is shorter than the sum of the covalent radii.
    """
    nearest: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for atoms in frames:
        symbols = np.array(atoms.get_chemical_symbols())
        first, second, distance = neighbor_list("ijd", atoms, REACH_A)
        for anion in set(symbols) & ANIONS:
            for other in set(symbols):
                both = (symbols[first] == anion) & (symbols[second] == other)
                for side, ends in enumerate((first[both], second[both])):
                    shortest = np.full(len(atoms), np.inf)
                    np.minimum.at(shortest, ends, distance[both])
                    found = nearest.setdefault((str(anion), str(other)), ([], []))
                    found[side].extend(shortest[np.isfinite(shortest)])
    pairs = {
        pair: float(min(np.quantile(values, 0.25) for values in sides)) for pair, sides in sorted(nearest.items()) if sides[0]
    }
    radius = {atoms.symbols[k]: covalent_radii[z] for atoms in frames for k, z in enumerate(atoms.numbers)}
    bonded = {pair for pair, length in pairs.items() if length < radius[pair[0]] + radius[pair[1]]}
    charges = {symbol: float(state) for symbol in sorted(radius) if (state := first_state(symbol)) is not None}
    model = BondModel(sorted({pair[0] for pair in pairs}), pairs, bonded, charges=charges)
    model.parameters = prior(model)[None]
    return model


def prior(model: BondModel) -> np.ndarray:
    """3 A^3 an anion, nothing from its neighbours."""
    return np.array([3.0 if kind == "a" else 0.0 for kind, _, _ in model.columns] + len(model.products) * [0.0])


def widths(model: BondModel, frames: Sequence[Atoms], parts: Sequence[Design]) -> np.ndarray:
    """Expected size of (parameter - prior); of bonds it is per A and per A^2 of their stretch.

    A product is expected to make `PRODUCT_A3` of the fluctuations (root mean square, of the tensor) in a crystal where it occurs.
    """
    sizes = [
        1.5 if kind == "a" else (1.0, 3.0, 6.0)[k - model.places[pair].start] if pair in model.bonded else 1.0
        for kind, pair, k in model.columns
    ]
    first = len(sizes)
    groups: dict[str, list[np.ndarray]] = {}
    for part in parts:
        for number, sites in zip(part.frames, part.sites, strict=True):
            groups.setdefault(frames[number].get_chemical_formula(), []).append(sites[first:].sum(axis=1))
    squares, crystals = np.full(len(model.products), 1e-9), np.full(len(model.products), 1e-9)
    for group in groups.values():
        values = np.array(group)
        squares += ((values - values.mean(axis=0)) ** 2).sum(axis=(2, 3)).mean(axis=0)
        crystals += values.any(axis=(0, 2, 3))
    expected = np.array([PRODUCT_A3[PRODUCTS[kind].endswith("->n")] for kind, _, _ in model.products])
    return np.concatenate([sizes, expected / np.hypot(np.sqrt(squares / crystals), STILL)])


@dataclass(frozen=True)
class Design:
    """Frames with one number of anions: their places in the list, sites (frames, parameters, sites, 3, 3), fields (frames, 3 sites, 3 sites)."""

    frames: np.ndarray
    sites: np.ndarray
    fields: np.ndarray


def designs(model: BondModel, frames: Sequence[Atoms]) -> list[Design]:
    """What of the frames does not depend on the parameters."""
    groups: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for number, atoms in enumerate(frames):
        around = model.around([atoms])
        basis = around.basis()
        size = 3 * basis.shape[1]
        if not size:  # no anion: nothing that the model could say
            continue
        fields = around.fields.of(torch.eye(size, dtype=basis.dtype).reshape(-1, 3, size)).reshape(size, size)
        groups.setdefault(size, []).append((number, basis.numpy(), fields.numpy()))
    return [Design(*(np.array(part) for part in zip(*group, strict=True))) for group in groups.values()]


@dataclass(frozen=True)
class Slopes:
    """Raman tensors of a configuration: the design of all its displacements (up, down, up, ...), tensors (displacements, 3, 3) in A^2,
    its modes (displacements, modes) in A, and the thermal deviations of the material, in A^3."""

    design: Design
    tensors: np.ndarray
    modes: np.ndarray
    sd_a: float
    sd_beta: float

    def rest(self, parameters: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Weighted errors (modes, 10) and their derivatives (modes, parameters, 10)."""

        def along_modes(sides: np.ndarray, known: np.ndarray | float = 0.0) -> np.ndarray:
            slope = (sides[::2] - sides[1::2]) / (2 * STEP_A) - known
            return _weighted(np.sqrt(TENSOR_LABELS) * np.tensordot(self.modes.T, slope, 1), self.sd_a, self.sd_beta)

        value, derivative = evaluate(parameters, self.design, slopes)
        return along_modes(value, self.tensors), None if derivative is None else along_modes(derivative)


def displaced(atoms: Atoms, step_A: float = STEP_A) -> list[Atoms]:
    """The configuration with each ion moved up and down along x, y and z, one after the other."""
    plain, sides = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True), []
    for ion in range(len(atoms)):
        for axis in range(3):
            for sign in (1, -1):
                sides.append(plain.copy())
                sides[-1].positions[ion, axis] += sign * step_A
    return sides


def thermal_modes(atoms: Atoms) -> np.ndarray:
    """(3 ions, modes) displacements in A that heat gives a harmonic crystal with the Hessian of the configuration (array hessian_eV_A2) at `USUAL_K`.

    The change of alpha along them is what a spectrum is made of: a soft mode counts more than a stretch, as it does there. Negative
    curvatures count by their size.
    """
    hessian = atoms.arrays["hessian_eV_A2"].reshape(3 * len(atoms), -1)
    curvature, directions = np.linalg.eigh(hessian)
    kT = KB_EV * USUAL_K
    return directions * np.sqrt(kT / np.maximum(np.abs(curvature), kT / FARTHEST_A**2))


def followed(
    model: BondModel, tensors: Sequence[Atoms], frames: Sequence[Atoms], alpha: np.ndarray, deviations: tuple[np.ndarray, np.ndarray]
) -> list[Slopes]:
    """Those of the Raman tensors whose material has labels, brought to their level of theory.

    LDA makes a crystal more polarizable than PBE, in alpha and in its slopes alike: the tensors are multiplied by the susceptibility of the
    labels of their material over that which came with them.
    """
    found = []
    for atoms in tensors:
        own = [k for k, frame in enumerate(frames) if frame.info["material"] == atoms.info["material"]]
        if not own:
            continue
        susceptibility = np.mean([4 * np.pi * np.trace(alpha[k]) / 3 / frames[k].get_volume() for k in own])
        ratio = susceptibility / (np.trace(np.reshape(atoms.info["epsilon"], (3, 3))) / 3 - 1)
        (design,) = designs(model, displaced(atoms))
        values = ratio * atoms.arrays["dalpha_dr_A2"].reshape(-1, 3, 3)
        found.append(Slopes(design, values, thermal_modes(atoms), deviations[0][own[0]], deviations[1][own[0]]))
    return found


def evaluate(parameters: np.ndarray, design: Design, slopes: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    """Polarizabilities (frames, 3, 3) in A^3, and their derivatives (frames, parameters, 3, 3) if asked for."""
    frames, _, sites = design.sites.shape[:3]
    alpha = np.einsum("p,fpnab->fnab", parameters, design.sites, optimize=True)
    orders = [np.broadcast_to(np.eye(3), (frames, sites, 3, 3))]
    for _ in range(ORDER):
        dipoles = np.einsum("fnab,fnbe->fnae", alpha, orders[-1]).reshape(frames, 3 * sites, 3)
        orders.append((design.fields @ dipoles).reshape(frames, sites, 3, 3))
    total = sum(np.einsum("fnab,fnbe->fae", alpha, order) for order in orders)
    if not slopes:
        return total, None
    derivative = np.zeros((frames, len(parameters), 3, 3))
    for k, left in enumerate(orders):
        right = sum(orders[: ORDER + 1 - k])
        derivative += np.einsum("fnae,fpnab,fnbg->fpeg", left, design.sites, right, optimize=True)
    return total, derivative


def fit(
    frames: Sequence[Atoms],
    alpha: np.ndarray,
    deviations: tuple[np.ndarray, np.ndarray],
    ridge: float = RIDGE,
    terms: BondModel | None = None,
    tensors: Sequence[Atoms] = (),
) -> BondModel:
    """The model fitted to the labels (frames, 3, 3) in A^3 of the frames; its terms are those of `terms` or of the frames.

    tensors: configurations with Raman tensors, as `scripts/training/raman_tensors.py` writes them; see `followed`.

    Errors count relative to the deviations of a and beta of each frame (`ionraman.training.polarizability.thermal_deviation`) times
    its temperature (info temperature_K) over `USUAL_K`: what the form leaves out is of second order in the displacements, so that
    hot frames are met worse, and must not decide alone.
    """
    heat = np.array([max(float(atoms.info.get("temperature_K", USUAL_K)), COLDEST_K) for atoms in frames]) / USUAL_K
    model = terms_of(frames) if terms is None else replace(terms)
    slopes_of = followed(model, tensors, frames, alpha, deviations)
    deviations = deviations[0] * heat, deviations[1] * heat
    parts, expected = designs(model, frames), prior(model)
    pull = ridge / widths(model, frames, parts) ** 2

    def labelled(design: Design, parameters: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray | None]:
        own = design.frames
        value, derivative = evaluate(parameters, design, slopes)
        rest = _weighted(value - alpha[own], deviations[0][own], deviations[1][own])
        return rest, _weighted(derivative, deviations[0][own][:, None], deviations[1][own][:, None]) if slopes else None

    def system(parameters: np.ndarray, slopes: bool):
        cost, normal, gradient = 0.0, np.diag(pull), pull * (parameters - expected)
        for part in (*parts, *slopes_of):
            rest, slope = part.rest(parameters, slopes) if isinstance(part, Slopes) else labelled(part, parameters, slopes)
            cost += (rest**2).sum()
            if slopes:
                normal = normal + np.einsum("fpr,fqr->pq", slope, slope, optimize=True)
                gradient = gradient + np.einsum("fpr,fr->p", slope, rest)
        return cost + (pull * (parameters - expected) ** 2).sum(), normal, gradient

    found, damping = expected, 1e-3
    for _ in range(60):
        cost, normal, gradient = system(found, True)
        while damping < 1e6:
            trial = found - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
            after = system(trial, False)[0]
            if after < cost:
                break
            damping *= 5
        else:
            break
        found = trial
        damping = max(damping / 5, 1e-9)
        if after > (1 - 1e-5) * cost:
            break
    model.parameters = found[None]
    return model


def _weighted(tensor: np.ndarray, sd_a: np.ndarray | float, sd_beta: np.ndarray | float) -> np.ndarray:
    """(..., 10): isotropic part over sd_a, the nine components of the rest over sd_beta; that is the loss of the networks."""
    a = np.trace(tensor, axis1=-2, axis2=-1) / 3
    beta = (tensor - a[..., None, None] * np.eye(3)) / np.asarray(sd_beta)[..., None, None]
    return np.concatenate([(a / sd_a)[..., None], beta.reshape(*beta.shape[:-2], 9)], axis=-1)
