"""Formal charges: one oxidation state for each element, such that the compound of the file is neutral."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

# States in order of preference. Several: the first that makes the whole compound neutral (S in sulphides and
# sulphates). Fractions of boron: closo-borates, [B12H12]2- and [B10H10]2- with H counted as -1.
STATES: dict[str, tuple[int | Fraction, ...]] = {
    "Li": (1,), "Na": (1,), "K": (1,), "Rb": (1,), "Cs": (1,), "Ag": (1,), "Cu": (1, 2),
    "Be": (2,), "Mg": (2,), "Ca": (2,), "Sr": (2,), "Ba": (2,), "Zn": (2,), "Cd": (2,), "Pb": (2, 4),
    "B": (3, Fraction(5, 6), Fraction(4, 5)), "Al": (3,), "Ga": (3,), "In": (3,), "Sc": (3,), "Y": (3,),
    "La": (3,), "Ce": (3, 4), "Pr": (3,), "Nd": (3,), "Sm": (3,), "Gd": (3,), "Er": (3,), "Yb": (3,),
    "Lu": (3,), "C": (4, -4), "Si": (4,), "Ge": (4,), "Sn": (4, 2), "Ti": (4,), "Zr": (4,), "Hf": (4,),
    "Bi": (3, 5), "N": (-3, 5), "P": (5, -3), "As": (5, 3, -3), "Sb": (5, 3, -3), "V": (5,), "Nb": (5,),
    "Ta": (5,), "O": (-2,), "S": (-2, 6, 4), "Se": (-2, 6, 4), "Te": (-2, 6, 4), "Mo": (6,), "W": (6,),
    "F": (-1,), "Cl": (-1, 7), "Br": (-1,), "I": (-1, 7), "H": (-1, 1),
}  # fmt: skip


def formal_states(composition: dict[str, float]) -> dict[str, Fraction] | None:
    """Oxidation state of each element of a compound, None where they cannot be stated.

    Args:
        composition: atoms of each element in the cell of the file; fractional where sites are partly
            occupied.

    One state for all atoms of an element, from the table above or, outside it, from pymatgen's common states.
    Among combinations that are neutral, the most preferred; if none is, the first of each element, so that a
    cell which lacks an ion shows its charge. A compound with an element outside the table that no combination
    makes neutral (mixed valence) gets pymatgen's guess, which is neutral by construction.
    """
    elements = sorted(composition)
    choices = [_choices(element) for element in elements]
    if not all(choices):
        return None
    # Occupancies are printed with three digits or so.
    tolerance = min(0.002 * sum(composition.values()), 0.5)
    ranked = sorted(
        product(*(range(len(states)) for states in choices)), key=lambda picks: (sum(picks), picks)
    )
    for picks in ranked:
        states = [options[pick] for options, pick in zip(choices, picks)]
        if abs(sum(float(state) * composition[e] for e, state in zip(elements, states))) <= tolerance:
            return dict(zip(elements, map(Fraction, states)))
    if all(element in STATES for element in elements):
        return {element: Fraction(options[0]) for element, options in zip(elements, choices)}
    return _guess(composition)


def first_state(element: str) -> Fraction | None:
    """Preferred oxidation state of an element that is put in as a dopant."""
    options = _choices(element)
    return Fraction(options[0]) if options else None


def net_charge(counts: dict[str, int], states: dict[str, Fraction] | None) -> Fraction | None:
    """Sum of formal charges in e; None if the state of an element is not known."""
    if states is None or any(element not in states for element in counts):
        return None
    return sum((states[element] * count for element, count in counts.items()), Fraction(0))


def _choices(element: str) -> tuple[int | Fraction, ...]:
    if element in STATES:
        return STATES[element]
    from pymatgen.core import Element

    return tuple(int(state) for state in Element(element).common_oxidation_states)


def _guess(composition: dict[str, float]) -> dict[str, Fraction] | None:
    from pymatgen.core import Composition

    try:
        guesses = Composition({e: round(n, 3) for e, n in composition.items()}).oxi_state_guesses()
    except ValueError:  # fractional amounts
        return None
    return (
        {e: Fraction(state).limit_denominator(1000) for e, state in guesses[0].items()} if guesses else None
    )
