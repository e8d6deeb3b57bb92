"""Trust of a candidate: whether the models were trained on compositions like its own.

A model's card lists its training compositions as atomic fractions. A candidate is inside if one of them holds all of its
elements, and if its fractions are within `TOLERANCE` of a mixture of training compositions that hold no other elements.
Covered elements alone say little: elements of different training crystals may never have been neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

TOLERANCE = 0.02
"""Largest difference of an atomic fraction from the nearest mixture of training compositions."""


def fractions(formula: str) -> dict[str, float]:
    """Atomic fractions of a formula such as Na23Sb7WS32.

    Raises:
        ValueError: it is no formula.
    """
    parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula)
    if not parts or "".join(symbol + count for symbol, count in parts) != formula:
        raise ValueError(f"{formula!r} is no formula of elements and amounts")
    counts: dict[str, float] = {}
    for symbol, count in parts:
        counts[symbol] = counts.get(symbol, 0) + float(count or 1)
    total = sum(counts.values())
    return {symbol: count / total for symbol, count in counts.items()}


def outside(formula: str, trained: Sequence[dict[str, float]]) -> str:
    """Why a composition is outside the training set; empty if it is inside.

    trained: atomic fractions of each training composition.
    """
    wanted = fractions(formula)
    if not any(set(wanted) <= set(known) for known in trained):
        return f"no training composition holds {' '.join(sorted(wanted))} together"
    near = [known for known in trained if set(known) <= set(wanted)]
    symbols = sorted(wanted)
    target = np.array([wanted[symbol] for symbol in symbols])
    matrix = np.array([[known.get(symbol, 0.0) for known in near] for symbol in symbols])
    if not near:
        return "every training composition holds other elements as well"
    # Smallest t with |matrix w - target| <= t, w >= 0, sum w = 1.
    ones = np.ones((len(symbols), 1))
    result = linprog(
        c=[*[0.0] * len(near), 1.0],
        A_ub=np.block([[matrix, -ones], [-matrix, -ones]]),
        b_ub=np.concatenate([target, -target]),
        A_eq=[[*[1.0] * len(near), 0.0]],
        b_eq=[1.0],
    )
    distance = float(result.fun)
    if distance > TOLERANCE + 1e-9:
        return f"its composition is {distance:.3f} in atomic fractions from those that were trained on"
    return ""


def verdict(formula: str, cards: dict[str, dict | None]) -> tuple[bool | None, str]:
    """Whether all models are trusted for a composition (None: a card does not say), and why not.

    cards: content of card.json of each model by its kind ('force', 'alpha'); None where a model has no card.
    """
    names = {"force": "force field", "alpha": "polarizability model"}
    reasons, unknown = [], []
    for kind, card in cards.items():
        trained = (card or {}).get("training_compositions")
        if not trained:
            unknown.append(f"the card of the {names[kind]} lists no training compositions")
        elif reason := outside(formula, trained):
            reasons.append(f"{names[kind]}: {reason}")
    if reasons:
        return False, "; ".join(reasons)
    return (None, "; ".join(unknown)) if unknown else (True, "")
