"""Recipes of carriers: `Sb->W 0.125; Na-vacancy 0.125`, amounts per formula unit."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TERM = re.compile(r"([A-Z][a-z]?)\s*(?:->\s*([A-Z][a-z]?)|-\s*vacancy)\s+(\S+)")


@dataclass(frozen=True)
class Carrier:
    """A substitution (`dopant` set) or a vacancy (`dopant` None) of `host`, `amount` per formula unit."""

    host: str
    dopant: str | None
    amount: float

    @property
    def label(self) -> str:
        """`Sb->W` or `Na-vacancy`."""
        return f"{self.host}->{self.dopant}" if self.dopant else f"{self.host}-vacancy"


def parse_carriers(text: str) -> tuple[Carrier, ...]:
    """Read a recipe; empty text is no carriers.

    Raises:
        ValueError: a term is not understood, an amount is not a positive number, or a term stands twice.
    """
    carriers: list[Carrier] = []
    for term in filter(None, (part.strip() for part in text.split(";"))):
        match = _TERM.fullmatch(term)
        if not match:
            raise ValueError(f"{term!r} is not understood")
        host, dopant, number = match.groups()
        try:
            amount = float(number)
        except ValueError:
            raise ValueError(f"the amount {number!r} of {term!r} is not a number") from None
        if not 0 < amount < 1000:
            raise ValueError(f"the amount of {term!r} is not above 0 and below 1000")
        if host == dopant:
            raise ValueError(f"{term!r} replaces {host} by itself")
        carrier = Carrier(host, dopant, amount)
        if carrier.label in {other.label for other in carriers}:
            raise ValueError(f"{carrier.label} stands twice")
        carriers.append(carrier)
    return tuple(carriers)
