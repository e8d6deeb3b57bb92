"""From a structure file to the simulation cell: supercell, ordering of partial occupancies, carriers,
checks."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionraman.candidates import ELEMENTS
from ionraman.carriers import Carrier, parse_carriers
from ionraman.charges import first_state, formal_states, net_charge
from ionraman.disorder import Disorder, ImpossibleOrdering, arrange, whole_numbers
from ionraman.supercell import Supercell, search

if TYPE_CHECKING:
    from ase import Atoms

OVERLAP = 0.5
"""Atoms closer than this share of the sum of their covalent radii (Cordero et al. 2008) are an error of the
file."""

_SYMPREC_A = 1e-3


class StructureInvalid(ValueError):
    """A candidate's structure cannot be built; the message is its reason, one sentence."""


@dataclass(frozen=True)
class Built:
    """A simulation cell and its record (JSON-able, the fields of `structure.json`)."""

    atoms: Atoms
    record: dict[str, Any]


@dataclass(frozen=True)
class _Unit:
    """A unit cell: lattice (3, 3) in A as rows, fractional coordinates (n, 3), occupancies of each site."""

    lattice: np.ndarray
    fractional: np.ndarray
    sites: tuple[tuple[tuple[str, float], ...], ...]

    @property
    def composition(self) -> dict[str, float]:
        total: Counter[str] = Counter()
        for site in self.sites:
            for symbol, occupancy in site:
                total[symbol] += occupancy
        return dict(total)

    @property
    def volume(self) -> float:
        return abs(float(np.linalg.det(self.lattice)))


def build(
    file: Path | str,
    *,
    mobile: str,
    carriers: str = "",
    min_image_A: float,
    max_atoms: int,
    seed: int,
    allow_charged: bool = False,
) -> Built:
    """Build the simulation cell of a candidate.

    Args:
        file: CIF (suffix .cif) or POSCAR.
        mobile: symbol of the mobile species.
        carriers: recipe, amounts per formula unit (see `ionraman.carriers`). The formula unit is the content
            of the file's cell divided by the greatest common divisor of its numbers of sites, sites counted
            by which species they hold.
        min_image_A: wanted shortest distance between periodic images, A.
        max_atoms: most atoms in the cell, before vacancies are made.
        seed: of the ordering and of the placement of carriers.
        allow_charged: accept a net formal charge.

    The cell of the file is repeated, so that its own zone-boundary wave vectors stay commensurate; the
    smallest repetition (non-diagonal ones included) that meets the image distance is taken. If none within
    the budget does, repetitions of the primitive cell are tried, and if these fail too, the cell of the
    largest image distance is taken and the record says `image_distance_met: false`: that is no error. Numbers
    of carriers are the nearest integers, at least one; which sites carry them is drawn by seed. Oxidation
    states are those of `ionraman.charges`.

    Raises:
        StructureInvalid: unreadable file, no cell within the budget, impossible ordering or recipe,
            overlapping atoms, net charge. The message is one sentence.
    """
    file = Path(file)
    recipe = parse_carriers(carriers)
    unit = _read(file)
    if mobile not in unit.composition:
        raise StructureInvalid(
            f"{file.name} holds no {mobile}, the mobile species; it holds "
            f"{', '.join(sorted(unit.composition))}."
        )
    rng = np.random.default_rng(seed)
    parent, supercell, met = _choose_cell(unit, min_image_A, max_atoms, file.name)
    cell, fractional, sites = _repeat(parent, supercell.matrix)
    states = formal_states(unit.composition)
    symbols, occupied = _order(cell, fractional, sites, states, rng, file.name)

    units = round(_formula_units(unit) * abs(np.linalg.det(cell)) / unit.volume)
    symbols, realised = _place(symbols, recipe, units, rng)
    dopants = {c.dopant: state for c in recipe if c.dopant and (state := first_state(c.dopant))}
    states = states and dopants | states  # an element of the compound keeps its state there

    from ase import Atoms

    keep = symbols != ""
    atoms = Atoms(symbols[keep].tolist(), cell=cell, scaled_positions=fractional[keep], pbc=True)
    counts = Counter(atoms.get_chemical_symbols())
    if not counts[mobile]:
        raise StructureInvalid(f"The carriers {carriers} leave no {mobile}, the mobile species, in the cell.")
    charge = net_charge(counts, states)
    formula = _reduced_formula(counts)
    if charge and not allow_charged:
        listed = ", ".join(f"{symbol} {float(states[symbol]):+g}" for symbol in sorted(counts))
        raise StructureInvalid(
            f"{formula} has a net formal charge of {float(charge):+g} e in the cell of {len(atoms)} atoms "
            f"({listed}); balance the carriers, or set structure.allow_charged."
        )
    _check_overlap(atoms, file.name)
    return Built(
        atoms,
        {
            "status": "complete",
            "reason": "",
            "source_file": file.as_posix(),
            "formula": formula,
            "n_atoms": len(atoms),
            "mobile": mobile,
            "n_mobile": counts[mobile],
            "parent_cell": "file" if parent is unit else "primitive",
            "supercell_matrix": supercell.matrix.tolist(),
            "shortest_image_A": round(supercell.image_A, 4),
            "image_distance_met": met,
            "volume_A3": float(atoms.get_volume()),
            "formula_units": units,
            "occupancies_realised": occupied,
            "carriers_requested": carriers,
            "carriers_realised": realised,
            "carriers_per_formula_unit": {label: count / units for label, count in realised.items()},
            "oxidation_states": states and {symbol: float(states[symbol]) for symbol in sorted(counts)},
            "net_charge_e": None if charge is None else float(charge),
            "seed": seed,
            "point_group": _point_group(unit).tolist(),
        },
    )


def _read(file: Path) -> _Unit:
    from pymatgen.io.cif import CifParser
    from pymatgen.io.vasp import Poscar
    from pymatgen.io.vasp.inputs import BadPoscarWarning

    kind = "CIF" if file.suffix.lower() == ".cif" else "POSCAR"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A POSCAR without symbols is read as H, He, ...; that guess is refused.
        warnings.simplefilter("error", BadPoscarWarning)
        try:
            if kind == "CIF":
                structure = CifParser(file).parse_structures(primitive=False, on_error="raise")[0]
            else:
                structure = Poscar.from_file(file, check_for_potcar=False, read_velocities=False).structure
        except Exception as error:  # the parsers raise whatever a broken file leads them to
            raise StructureInvalid(
                f"{file.name} cannot be read as a {kind} file: {_cause(error)}."
            ) from error

    sites, fractional = [], []
    for site in structure:
        occupancies: Counter[str] = Counter()
        for species, occupancy in site.species.items():
            symbol = {"D": "H", "T": "H"}.get(species.symbol, species.symbol)
            if symbol not in ELEMENTS:
                raise StructureInvalid(f"{file.name} holds {species.symbol}, which is no element.")
            occupancies[symbol] += occupancy
        if sum(occupancies.values()) > 1 + 1e-3:
            raise StructureInvalid(f"{file.name} fills the site of {site.species_string} more than once.")
        present = tuple(
            sorted((symbol, round(share, 4)) for symbol, share in occupancies.items() if share > 1e-4)
        )
        if present:
            sites.append(present)
            fractional.append(site.frac_coords)
    lattice = np.array(structure.lattice.matrix)
    if not sites or not np.isfinite(lattice).all() or not np.isfinite(fractional).all():
        raise StructureInvalid(
            f"{file.name} holds no atoms, or lattice vectors or coordinates that are no numbers."
        )
    return _Unit(lattice, np.array(fractional), tuple(sites))


def _cause(error: Exception) -> str:
    """What a parser complains of, without its final stop: the cause stands in the last line of its
    message."""
    if isinstance(error.__cause__, KeyError):
        return f"{error.__cause__.args[0]} is missing"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].split(". ")[0].rstrip(".!")


def _choose_cell(unit: _Unit, min_image_A: float, max_atoms: int, name: str) -> tuple[_Unit, Supercell, bool]:
    """The cell to repeat, its repetition, and whether that meets the image distance (see `build`)."""
    best: tuple[_Unit, Supercell] | None = None
    primitive = _primitive(unit)
    for parent in (unit, primitive):
        budget = math.floor(max_atoms / sum(parent.composition.values()) + 1e-6)
        supercell, met = search(parent.lattice, budget, min_image_A)
        if met:
            return parent, supercell, True
        if supercell and (best is None or supercell.image_A > best[1].image_A + 1e-6):
            best = parent, supercell
    if best is None:
        raise StructureInvalid(
            f"The primitive cell of {name} holds {sum(primitive.composition.values()):g} atoms, "
            f"more than the {max_atoms} that structure.max_atoms allows."
        )
    return *best, False


def _primitive(unit: _Unit) -> _Unit:
    """The primitive cell in the same orientation; sites are alike if their occupancies are. The cell itself
    if it is one."""
    import spglib

    kinds = sorted(set(unit.sites))
    numbers = [kinds.index(site) for site in unit.sites]
    found = spglib.standardize_cell(
        (unit.lattice, unit.fractional, numbers), to_primitive=True, no_idealize=True, symprec=_SYMPREC_A
    )
    if found is None or len(found[2]) >= len(unit.sites):
        return unit
    lattice, fractional, numbers = found
    return _Unit(np.array(lattice), np.array(fractional), tuple(kinds[number] for number in numbers))


def _point_group(unit: _Unit) -> np.ndarray:
    """(n, 3, 3) Cartesian rotations of the crystal without its carriers, in the frame of the cell; the identity alone if none is found.

    A rotation and its product with the inversion act alike on a strain: one of each pair is kept.
    """
    import spglib

    kinds = sorted(set(unit.sites))
    numbers = [kinds.index(site) for site in unit.sites]
    found = spglib.get_symmetry((unit.lattice, unit.fractional, numbers), symprec=_SYMPREC_A)
    if found is None:
        return np.eye(3)[None]
    proper = found["rotations"] * np.round(np.linalg.det(found["rotations"]))[:, None, None]
    rotations = np.unique(proper.astype(int), axis=0)
    return unit.lattice.T @ rotations @ np.linalg.inv(unit.lattice.T)


def _formula_units(unit: _Unit) -> int:
    counts = Counter(frozenset(symbol for symbol, _ in site) for site in unit.sites)
    return math.gcd(*counts.values())


def _repeat(
    unit: _Unit, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[tuple[tuple[str, float], ...]]]:
    """Lattice, fractional coordinates in [0, 1) and sites of the supercell, site by site."""
    from ase import Atoms
    from ase.build import make_supercell

    indices = Atoms(
        numbers=[1] * len(unit.sites), cell=unit.lattice, scaled_positions=unit.fractional, pbc=True
    )
    indices.set_tags(range(len(unit.sites)))
    repeated = make_supercell(indices, matrix, order="atom-major")
    tags = repeated.get_tags()
    return np.array(repeated.cell), repeated.get_scaled_positions(), [unit.sites[tag] for tag in tags]


def _order(
    cell: np.ndarray,
    fractional: np.ndarray,
    sites: list[tuple[tuple[str, float], ...]],
    states: dict[str, Fraction] | None,
    rng: np.random.Generator,
    name: str,
) -> tuple[np.ndarray, dict[str, int]]:
    """Symbols of all sites ("" for empty), and the atoms on partly occupied sites by occupancy, e.g. {"Na
    0.96": 23}."""
    symbols = np.array(["" if _partial(site) else site[0][0] for site in sites], dtype=object)
    kinds = sorted({site for site in sites if _partial(site)})
    if not kinds:
        return symbols, {}
    groups = [
        Disorder(np.array([i for i, site in enumerate(sites) if site == kind]), dict(kind)) for kind in kinds
    ]
    filled = net_charge(Counter(symbols[symbols != ""].tolist()), states)
    try:
        counts = whole_numbers(groups, states, filled or Fraction(0))
    except ImpossibleOrdering as error:
        raise StructureInvalid(f"{name} cannot be ordered: {error}.") from None
    occupied = {
        f"{symbol} {group.occupancy[symbol]:g}": n
        for group, number in zip(groups, counts)
        for symbol, n in number.items()
    }
    return arrange(cell, fractional, symbols, groups, counts, states, rng), occupied


def _partial(site: tuple[tuple[str, float], ...]) -> bool:
    return len(site) > 1 or site[0][1] < 1 - 1e-3


def _place(
    symbols: np.ndarray, recipe: tuple[Carrier, ...], units: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, int]]:
    """Put the carriers on sites of the host drawn at random, each site once; symbols and the numbers
    realised."""
    symbols, original, realised = symbols.copy(), symbols, {}
    for carrier in recipe:
        free = np.flatnonzero((original == carrier.host) & (symbols == carrier.host))
        count = max(1, math.floor(carrier.amount * units + 0.5))
        if count > len(free):
            raise StructureInvalid(
                f"{carrier.label} {carrier.amount:g} per formula unit needs {count} {carrier.host}, "
                f"but the cell of {units} formula units has {len(free)} to give."
            )
        symbols[rng.choice(free, size=count, replace=False)] = carrier.dopant or ""
        realised[carrier.label] = count
    return symbols, realised


def _reduced_formula(counts: Counter[str]) -> str:
    from pymatgen.core import Composition

    return Composition(dict(counts)).reduced_formula


def _check_overlap(atoms: Atoms, name: str) -> None:
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list

    radii = covalent_radii[atoms.numbers]
    first, second, distance = neighbor_list("ijd", atoms, OVERLAP * radii)
    if not len(distance):
        return
    closest = int(np.argmin(distance))
    i, j = int(first[closest]), int(second[closest])
    raise StructureInvalid(
        f"{name}: atom {i + 1} ({atoms[i].symbol}) and atom {j + 1} ({atoms[j].symbol}) of the cell are "
        f"{distance[closest]:.2f} A apart, less than {OVERLAP:g} of the sum of their covalent radii "
        f"({radii[i] + radii[j]:.2f} A)."
    )
