"""Order of candidates with its uncertainty: Pareto layers, redrawn values, tie groups.

Every value is redrawn DRAWS times from what its interval says, and the candidates are ordered anew each time.
Neighbours in the order of the measured values whose order holds in less than ORDER_PROBABILITY of the draws
form a tie group, and so do their neighbours in turn. The draws of a candidate depend on it alone, so that
adding another one does not change them.
"""

import hashlib
import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

DRAWS = 4000
ORDER_PROBABILITY = 0.95


@dataclass(frozen=True, eq=False)
class Entry:
    """A candidate as the order sees it; I_low in A^3, D in cm^2/s, each -inf if it is not known."""

    I_low: float
    D: float  # 0 if nothing jumped
    D_bound: float  # upper end of its interval, or the bound if nothing jumped
    I_low_draws: NDArray | None  # (DRAWS,); None without an interval
    D_draws: NDArray | None


def pareto_layers(first: ArrayLike, second: ArrayLike) -> NDArray:
    """Layer, from 1, of each point (n,): those that no other dominates, then those of the rest, and so on.

    A point dominates another if it is not smaller in either value and larger in one. Sorted sweep with one
    binary search a point: Zhang et al., IEEE Trans. Evol. Comput. 19, 201 (2015).
    """
    first, second = -np.asarray(first, dtype=float), -np.asarray(second, dtype=float)
    order = np.lexsort((second, first))
    layers: list[int] = []
    smallest: list[float] = []  # of minus the second value, in each layer so far; ascending
    previous = None
    for point in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if point != previous:
            layer = bisect_right(smallest, point[1])
            smallest[layer : layer + 1] = [point[1]]
            previous = point
        layers.append(layer + 1)
    unsorted = np.empty(len(layers), dtype=int)
    unsorted[order] = layers
    return unsorted


def best_first(key: str, I_low: NDArray, D: NDArray) -> NDArray:
    """Indices (n,) from the best; key "pareto": layers over I_low and D, inside a layer by I_low.

    With "I_low" or "D" the other value decides between equal ones. Rows equal in both keep their order.
    """
    if key == "pareto":
        return np.lexsort((-I_low, pareto_layers(I_low, D)))
    return np.lexsort((-D, -I_low) if key == "I_low" else (-I_low, -D))


def tie_groups(key: str, entries: list[Entry]) -> list[int]:
    """Number, from 1, of the tie group of each entry; the entries stand in their order.

    A row without an interval cannot be told from its neighbours. Rows where nothing jumped are equal in D;
    against others the Pareto order takes their D from below the bound, and with the key D a row is above
    such a one only while it is above that one's bound.
    """
    if not entries:
        return []
    if key == "pareto":
        place = _places(entries)
        kept = [float(np.mean(upper < lower)) for upper, lower in pairwise(place.T)]
    else:
        kept = [_kept(key, upper, lower) for upper, lower in pairwise(entries)]
    known = [
        (key == "D" or entry.I_low_draws is not None) and (key == "I_low" or entry.D_draws is not None)
        for entry in entries
    ]
    parted = [
        both and probability >= ORDER_PROBABILITY
        for both, probability in zip(map(all, pairwise(known)), kept, strict=True)
    ]
    return list(accumulate(parted, initial=1))


def draw_intensity(units: ArrayLike, candidate: str, model: str | None) -> NDArray | None:
    """I_low (DRAWS,) from its values in units (members of the ensemble, replicas or blocks), A^3.

    ln I_low follows Student's t over the units and, for more than one member, over the members. The members
    of a model share part of their error, so one set of member weights is drawn for all its candidates: the
    difference of two of them then follows Student's t over the members' own differences (M - 1 degrees of
    freedom), in which the common part is gone. The error that all members share with each other is not in it.
    None if there are fewer than two units or one is not positive.
    """
    units = np.asarray(units, dtype=float)
    if units.ndim != 2 or units.shape[1] < 2 or not (units > 0).all():
        return None
    logs = np.log(units.mean(axis=0))
    error = logs.std(ddof=1) / math.sqrt(len(logs))
    noise = _generator(f"{candidate} I_low").standard_t(len(logs) - 1, size=DRAWS)
    members = np.log(units.mean(axis=1))
    shift = _member_weights(model, len(members)) @ (members - members.mean()) if len(members) > 1 else 0.0
    # One degree of freedom has draws beyond what a float holds.
    return np.exp(np.clip(math.log(units.mean()) + shift + error * noise, -700, 700))


def _member_weights(model: str | None, count: int) -> NDArray:
    """Weights (DRAWS, count) that turn deviations from the members' mean into draws of the mean's error.

    Multivariate t: weights @ deviations is standard error times Student's t of count - 1 degrees of freedom
    for the deviations of one candidate and for the difference of two.
    """
    generator = _generator(f"{model} {count}")
    normal = generator.standard_normal((DRAWS, count))
    scale = np.sqrt(generator.chisquare(count - 1, size=DRAWS) / (count - 1))
    return normal / scale[:, None] / math.sqrt(count * (count - 1))


def draw_diffusivity(D: float, low: float, high: float, confidence: float, candidate: str) -> NDArray | None:
    """D (DRAWS,): ln D normal on each side of its value such that the interval has its confidence; cm^2/s.

    D = 0 (nothing jumped) with the bound high: exponential, which is what no event of a Poisson process says
    of its rate, and below the bound with that confidence. None without a positive finite interval that holds
    D, or without a bound.
    """
    if D == 0 and 0 < high < math.inf:
        return high / -math.log(1 - confidence) * _generator(f"{candidate} D").standard_exponential(DRAWS)
    if not 0 < low <= D <= high < math.inf:
        return None
    normal = _generator(f"{candidate} D").standard_normal(DRAWS) / norm.ppf(0.5 + confidence / 2)
    return D * np.where(normal > 0, high / D, D / low) ** normal


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))


def _kept(key: str, upper: Entry, lower: Entry) -> float:
    """Share of the draws in which upper stays above lower; 0 if one has none."""
    above, below = (
        (upper.I_low_draws, lower.I_low_draws) if key == "I_low" else (upper.D_draws, lower.D_draws)
    )
    if above is None or below is None:
        return 0.0
    if key == "D" and lower.D == 0:
        return float(np.mean(above > lower.D_bound)) if upper.D > 0 else 0.0
    return float(np.mean(above > below))


def _places(entries: list[Entry]) -> NDArray:
    """Place of each entry in the Pareto order of each draw, (DRAWS, n); a value without draws stays.

    Rows where nothing jumped count as equal in D among themselves, and with D below their bounds against
    others. A row's layer is one below the lowest of those that dominate it, all of which have its I_low or
    more.
    """

    def drawn(value: float, draws: NDArray | None) -> NDArray:
        return np.full(DRAWS, value) if draws is None else draws

    I_low = np.array([drawn(entry.I_low, entry.I_low_draws) for entry in entries]).T
    D = np.array([drawn(entry.D, entry.D_draws) for entry in entries]).T
    still = np.broadcast_to([entry.D == 0 for entry in entries], D.shape)
    brightest_first = np.lexsort((-D, -I_low), axis=1)
    I_low, D, still = (np.take_along_axis(x, brightest_first, axis=1) for x in (I_low, D, still))
    layers = np.ones(D.shape, dtype=int)
    for i in range(1, len(entries)):
        before, this = slice(0, i), slice(i, i + 1)
        dominates = (D[:, before] >= D[:, this]) | (still[:, before] & still[:, this])
        dominates &= (I_low[:, before] > I_low[:, this]) | (D[:, before] > D[:, this])
        layers[:, i] += np.where(dominates, layers[:, before], 0).max(axis=1)
    ordered = np.take_along_axis(brightest_first, np.argsort(layers, axis=1, kind="stable"), axis=1)
    return np.argsort(ordered, axis=1)
