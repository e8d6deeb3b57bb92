"""Ordering of partial occupancies: whole numbers of atoms, then an arrangement of low electrostatic
energy."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import ceil, floor

import numpy as np


class ImpossibleOrdering(ValueError):
    """No whole numbers of atoms fit the sites."""


@dataclass(frozen=True)
class Disorder:
    """Sites of the cell that share one partial occupancy."""

    sites: np.ndarray
    occupancy: dict[str, float]


def whole_numbers(
    groups: list[Disorder], states: dict[str, Fraction] | None, other_charge: Fraction
) -> list[dict[str, int]]:
    """Atoms of each species in each group: rounded up or down, at least one, as neutral as possible.

    Args:
        groups: the partly occupied sites of the cell.
        states: oxidation states, or None if unknown; then only the deviation from the occupancies counts.
        other_charge: formal charge of the fully occupied sites, e.

    Returns:
        The combination of smallest net charge and, among those, smallest summed squared deviation from the
        occupancies.

    Raises:
        ImpossibleOrdering: a group has fewer sites than species.
    """
    # Net charge so far -> (deviation, numbers of atoms of the groups so far): the best of each charge is
    # enough.
    reached: dict[Fraction, tuple[float, list[dict[str, int]]]] = {other_charge: (0.0, [])}
    for group in groups:
        options = _options(group)
        if not options:
            raise ImpossibleOrdering(
                f"{len(group.sites)} sites cannot hold "
                + ", ".join(f"{share:.3g} {symbol}" for symbol, share in group.occupancy.items())
                + " with at least one atom of each; a larger cell can (structure.max_atoms)"
            )
        extended: dict[Fraction, tuple[float, list[dict[str, int]]]] = {}
        for charge, (deviation, chosen) in reached.items():
            for counts in options:
                extra = (
                    sum((states[s] * n for s, n in counts.items()), Fraction(0)) if states else Fraction(0)
                )
                total = deviation + sum(
                    (n - len(group.sites) * group.occupancy[s]) ** 2 for s, n in counts.items()
                )
                if charge + extra not in extended or total < extended[charge + extra][0] - 1e-9:
                    extended[charge + extra] = total, [*chosen, counts]
        reached = extended
    return min(reached.items(), key=lambda item: (abs(item[0]), item[1][0]))[1][1]


def _options(group: Disorder) -> list[dict[str, int]]:
    size = len(group.sites)
    full = sum(group.occupancy.values()) > 1 - 1e-3
    ranges = []
    for share in group.occupancy.values():
        expected = size * share
        # Occupancies are printed with three digits or so: 12 x 0.667 is 8.
        near = abs(expected - round(expected)) < 0.002 * size
        bounds = {round(expected)} if near else {floor(expected), ceil(expected)}
        ranges.append(sorted({max(1, bound) for bound in bounds}))
    options = [dict(zip(group.occupancy, counts)) for counts in product(*ranges)]
    return [o for o in options if sum(o.values()) == size or (not full and sum(o.values()) < size)]


def arrange(
    lattice: np.ndarray,
    fractional: np.ndarray,
    symbols: np.ndarray,
    groups: list[Disorder],
    counts: list[dict[str, int]],
    states: dict[str, Fraction] | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Symbols of all sites, "" where a site is left empty.

    Args:
        lattice, fractional: (3, 3) vectors in A as rows and (n, 3) coordinates of all sites.
        symbols: (n,) symbols of the fully occupied sites; entries of the groups are ignored.
        groups, counts: the partly occupied sites and how many atoms of each species they get.
        states: oxidation states, or None if unknown.
        rng: source of the starting arrangement.

    The start is random. Atoms of a group are then exchanged, always the pair that lowers the Ewald energy of
    the formal charges most, until no exchange does: a random draw alone would fill both halves of a split
    site, or give BH2 and BH6 for BH4. Another seed ends in another of the many arrangements of about that
    energy. With unknown states the random arrangement stands.
    """
    symbols = symbols.astype(object).copy()
    for group, number in zip(groups, counts):
        content = [symbol for symbol, n in number.items() for _ in range(n)]
        content += [""] * (len(group.sites) - len(content))
        symbols[group.sites] = rng.permutation(np.array(content, dtype=object))
    if states is None or all(len(set(symbols[group.sites])) == 1 for group in groups):
        return symbols

    matrix = _ewald_matrix(lattice, fractional)
    charges = np.array([float(states[symbol]) if symbol else 0.0 for symbol in symbols])
    field = matrix @ charges
    first, second = np.concatenate([_pairs(group.sites) for group in groups]).T
    while True:
        moved = charges[second] - charges[first]
        change = 2 * moved * (field[first] - field[second]) + moved**2 * (
            matrix[first, first] + matrix[second, second] - 2 * matrix[first, second]
        )
        best = int(np.argmin(change))
        if change[best] > -1e-6:
            return symbols
        i, j = first[best], second[best]
        field += (matrix[:, i] - matrix[:, j]) * moved[best]
        charges[i], charges[j] = charges[j], charges[i]
        symbols[i], symbols[j] = symbols[j], symbols[i]


def _pairs(sites: np.ndarray) -> np.ndarray:
    upper = np.triu_indices(len(sites), k=1)
    return np.stack([sites[upper[0]], sites[upper[1]]], axis=1)


def _ewald_matrix(lattice: np.ndarray, fractional: np.ndarray) -> np.ndarray:
    """(n, n) matrix M: charges q (e) on the sites have the energy q M q in eV, up to a function of the net
    charge."""
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.core import Species, Structure

    return EwaldSummation(
        Structure(lattice, [Species("H", 1)] * len(fractional), fractional)
    ).total_energy_matrix
