"""Checks of labels: one by one, and each against the rest of its set.

A turned tensor looks sound on its own: it is finite, symmetric and of the right size. It is found by a
bond-polarizability model, beta = sum over pairs of w_ab(r) (rr - 1/3), that is fitted to all other labels of
the material and predicts the one in question (leave one out). The label whose residual stands out most, and
for which a turned version of the prediction fits much better, is named.

Limits: a turn about an axis of the tensor or of a nearly isotropic one changes nothing and is not seen. Of
random turns 11 of 12 were found with 6 labels of NaCl, 7 of 12 with 6 of Na2S, 14 of 28 with 14 of Na3PS4, and
no sound label was named. With fewer than `ROTATION_FRAMES` labels, or where the pair model misses more than
60 % of the anisotropy (Na3SbS4; the two-atom cell of NaCl), nothing is judged and the summary says so. Labels
computed here have a stronger check: what ph.x printed is read again (`ionraman.training.labels.read_label`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.spatial.transform import Rotation

from ionraman.training.settings import Checks

ROTATION_FRAMES = 6
"""Fewest labels of a material for which turned tensors are looked for."""

REACH_A = 6.0
"""Reach of the bond-polarizability model, A."""

POWERS = (0.0, 3.0, 6.0, 9.0)
"""Radial functions of its bonds: r^-p, times a smooth end at the reach (3 is the dipole-induced dipole)."""


@dataclass(frozen=True)
class Finding:
    """What a check says: index of the label in its set, and the reason in one sentence."""

    index: int
    reason: str


def polarizability_problem(
    epsilon: np.ndarray, alpha_A3: np.ndarray, volume_A3: float, checks: Checks
) -> str | None:
    """What is wrong with one tensor on its own, None if nothing is.

    Args:
        epsilon, alpha_A3: (3, 3); alpha = V/(4 pi) (eps - 1).
        volume_A3: of the cell.
    """
    epsilon, alpha_A3 = np.asarray(epsilon, float), np.asarray(alpha_A3, float)
    if not (np.isfinite(epsilon).all() and np.isfinite(alpha_A3).all()):
        return "not a number (NaN) in the tensor"
    asymmetry = float(np.abs(epsilon - epsilon.T).max())
    if asymmetry > checks.asymmetry:
        return f"asymmetric: |eps - eps^T| reaches {asymmetry:.3g}, allowed {checks.asymmetry:g}"
    lowest = float(np.linalg.eigvalsh((epsilon + epsilon.T) / 2)[0])
    if lowest < 1:
        return f"an eigenvalue of eps is {lowest:.3g}; a static dielectric tensor has none below 1"
    expected = volume_A3 / (4 * np.pi) * (epsilon - np.eye(3))
    if np.abs(expected - alpha_A3).max() > 1e-3 * np.abs(expected).max():
        return "alpha_A3 is not V/(4 pi) (eps - 1): wrong units, or alpha and eps are in different frames"
    return None


def force_problem(energy_eV: float, forces_eV_A: np.ndarray, stress_eV_A3: np.ndarray | None) -> str | None:
    """What is wrong with one force label on its own, None if nothing is."""
    if not (np.isfinite(energy_eV) and np.isfinite(forces_eV_A).all()):
        return "not a number (NaN) in energy or forces"
    if stress_eV_A3 is not None and not np.isfinite(stress_eV_A3).all():
        return "not a number (NaN) in the stress"
    net, largest = np.linalg.norm(forces_eV_A.sum(axis=0)), np.abs(forces_eV_A).max()
    if net > 0.1 * max(largest, 0.1) * len(forces_eV_A) ** 0.5:
        return f"the forces add up to {net:.3g} eV/A; those of a crystal add up to 0"
    return None


def wrong_scale(values: Sequence[float], groups: Sequence[str], factor: float, what: str) -> list[Finding]:
    """Values that differ by more than `factor` from the median of the others of their group (of the set, if alone)."""
    values, groups = np.abs(np.asarray(values, float)), np.asarray(groups)
    findings = []
    for index, value in enumerate(values):
        others = groups == groups[index]
        others[index] = False
        if not others.any():
            others = np.arange(len(values)) != index
        if not others.any():
            continue
        ratio = value / np.median(values[others])
        if not 1 / factor < ratio < factor:
            findings.append(
                Finding(index, f"{what} is {ratio:.3g} times that of the rest of its set: wrong units?")
            )
    return findings


AT_REST_EV_A = 0.01
"""Forces below this tell nothing of their unit: at a minimum there are none."""


def large_forces(sizes: Sequence[float], groups: Sequence[str], factor: float) -> list[Finding]:
    """Frames whose root mean square force is more than `factor` times the median of three or more moving ones of their composition."""
    sizes, groups = np.asarray(sizes, float), np.asarray(groups)
    findings = []
    for index, size in enumerate(sizes):
        others = (groups == groups[index]) & (sizes > AT_REST_EV_A)
        others[index] = False
        if others.sum() >= 3 and size > factor * (middle := np.median(sizes[others])):
            reason = f"its force is {size / middle:.3g} times that of the rest of its composition: wrong units?"
            findings.append(Finding(index, reason))
    return findings


def small_files(sizes: Sequence[float], groups: Sequence[str], files: Sequence[str], factor: float) -> list[Finding]:
    """All frames of a file whose median force is below that of every other file of its composition by more than `factor`.

    Judged with five moving frames or more in at least three files: of two, nothing says which is wrong.
    """
    sizes, places = np.asarray(sizes, float), {}
    for index, place in enumerate(zip(groups, files, strict=True)):
        places.setdefault(place, []).append(index)
    moving = {place: sizes[rows][sizes[rows] > AT_REST_EV_A] for place, rows in places.items()}
    medians = {place: np.median(found) for place, found in moving.items() if len(found) >= 5}
    findings = []
    for (group, file), median in medians.items():
        others = [value for (name, other), value in medians.items() if name == group and other != file]
        if len(others) >= 2 and median * factor < min(others):
            reason = f"the forces of its file are {median / min(others):.3g} times those of other files of {group}: wrong units?"
            findings += [Finding(index, reason) for index in places[group, file]]
    return findings


def far_energies(energies: Sequence[float], groups: Sequence[str], limit_eV: float) -> list[Finding]:
    """Energies per atom that are further than the limit from the median of their composition."""
    energies, groups = np.asarray(energies, float), np.asarray(groups)
    findings = []
    for group in sorted(set(groups.tolist())):
        own = np.flatnonzero(groups == group)
        apart = energies[own] - np.median(energies[own])
        findings += [
            Finding(
                int(index),
                f"its energy is {value:+.3g} eV/atom from the median of {group}: wrong units or reference?",
            )
            for index, value in zip(own, apart)
            if abs(value) > limit_eV
        ]
    return findings


def unlike_forces(
    forces: Sequence[np.ndarray], reference: Sequence[np.ndarray | None], factor: float
) -> list[Finding]:
    """Force labels that disagree in scale or direction with the forces of the model that made the configuration.

    A frame is judged where the reference is known and not small. slope = F.F_ref / F_ref.F_ref outside
    (1/factor, factor), or a cosine below 0.3, is named.
    """
    findings = []
    for index, (own, other) in enumerate(zip(forces, reference, strict=True)):
        if other is None or np.sqrt((other**2).mean()) < 0.05:
            continue
        slope = float((own * other).sum() / (other**2).sum())
        cosine = float((own * other).sum() / np.sqrt((own**2).sum() * (other**2).sum() + 1e-30))
        if cosine < 0.3:
            findings.append(
                Finding(
                    index,
                    f"its forces point elsewhere than the sampling model's (cosine {cosine:.2f}): turned?",
                )
            )
        elif not 1 / factor < slope < factor:
            findings.append(
                Finding(index, f"its forces are {slope:.3g} times the sampling model's: wrong units?")
            )
    return findings


def turned_tensors(
    frames: Sequence[Atoms], alpha_A3: np.ndarray, materials: Sequence[str], factor: float
) -> tuple[list[Finding], dict[str, str]]:
    """Labels whose tensor seems to be in another frame of reference than their configuration.

    Args:
        frames, alpha_A3 (frames, 3, 3), materials: the set.
        factor: residual over the material's median residual from which a label is suspected.

    Returns:
        Findings, and per material in words what was done.
    """
    beta = alpha_A3 - np.trace(alpha_A3, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    findings, judged, materials = [], {}, np.asarray(materials)
    for material in sorted(set(materials.tolist())):
        left = np.flatnonzero(materials == material)
        # The worst label first: a turned one spoils the prediction of the others until it is out.
        while True:
            if len(left) < ROTATION_FRAMES:
                words = f"orientation not judged: {len(left)} labels, {ROTATION_FRAMES} needed"
                judged.setdefault(material, words)
                break
            predicted = _left_out([frames[k] for k in left], beta[left])
            size = np.linalg.norm(beta[left], axis=(1, 2))
            share = np.linalg.norm(beta[left] - predicted, axis=(1, 2)) / np.maximum(
                size, 0.7 * np.median(size)
            )
            if np.median(share) > 0.6:
                judged[material] = (
                    f"orientation not judged: the pair model misses {np.median(share):.0%} of the anisotropy "
                    "(many-body polarizability, or all labels of another orientation)"
                )
                break
            judged[material] = (
                f"orientation judged: the pair model misses {np.median(share):.0%} of the anisotropy"
            )
            worst = int(np.argmax(share))
            others = float(np.median(np.delete(share, worst)))
            turned = _best_turn(beta[left[worst]], predicted[worst]) / size[worst]
            if share[worst] < factor * others or turned > 0.5 * share[worst]:
                break
            reason = (
                f"its tensor is turned against its configuration: it is off the prediction from the other labels by "
                f"{share[worst]:.0%} of its anisotropy (others of {material}: {others:.0%}), the prediction turned by {turned:.0%}"
            )
            findings.append(Finding(int(left[worst]), reason))
            left = np.delete(left, worst)
    return findings, judged


def _best_turn(beta: np.ndarray, predicted: np.ndarray) -> float:
    """Smallest norm of beta - R predicted R^T over rotations: eigenvalues compared in order (Hoffman, Wielandt 1953)."""
    return float(np.linalg.norm(np.linalg.eigvalsh(beta) - np.linalg.eigvalsh(predicted)))


def _left_out(frames: Sequence[Atoms], beta: np.ndarray) -> np.ndarray:
    """Prediction (frames, 3, 3) of every beta from a ridge fit to all others, the ridge chosen by the same errors."""
    pairs = sorted(
        {(min(a, b), max(a, b)) for atoms in frames for a in set(atoms.numbers) for b in set(atoms.numbers)}
    )
    design = np.array([_bond_tensors(atoms, pairs) for atoms in frames])  # frames, features, 3, 3
    count = len(frames)
    x = design.reshape(count, design.shape[1], 9).transpose(0, 2, 1)
    scale = np.sqrt((x**2).mean(axis=(0, 1)))
    x = x[:, :, scale > 1e-12] / scale[scale > 1e-12]
    weight = 1 / np.array([max(len(atoms), 1) for atoms in frames]) ** 0.5
    x, y = x * weight[:, None, None], beta.reshape(count, 9) * weight[:, None]
    flat = x.reshape(-1, x.shape[2])
    gram, moment = flat.T @ flat, flat.T @ y.ravel()
    best, chosen = np.inf, None
    for ridge in 10.0 ** np.arange(-5, 1.1, 0.5) * np.trace(gram) / len(gram):
        inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
        fitted = x @ (inverse @ moment)
        hat = (x @ inverse) @ x.transpose(0, 2, 1)
        # Leaving out the nine equations of a frame: y - y_out = (1 - H)^-1 (y - fit).
        left = y - np.linalg.solve(np.eye(9) - hat, (y - fitted)[:, :, None])[:, :, 0]
        error = float(np.median(np.linalg.norm(y - left, axis=1)))
        if error < best:
            best, chosen = error, left
    return (chosen / weight[:, None]).reshape(count, 3, 3)


def _bond_tensors(atoms: Atoms, pairs: list[tuple[int, int]]) -> np.ndarray:
    """(features, 3, 3): for each pair of species and radial function, the sum of f(r) (rr - 1/3) over bonds."""
    first, second, distance, vector = neighbor_list("ijdD", atoms, REACH_A)
    if not len(distance):
        return np.zeros((len(pairs) * len(POWERS), 3, 3))
    unit = vector / distance[:, None]
    tensor = unit[:, :, None] * unit[:, None, :] - np.eye(3) / 3
    smooth = 0.5 * (1 + np.cos(np.pi * distance / REACH_A))
    radial = np.stack([smooth * distance**-power for power in POWERS], axis=1)
    low = np.minimum(atoms.numbers[first], atoms.numbers[second])
    high = np.maximum(atoms.numbers[first], atoms.numbers[second])
    features = []
    for a, b in pairs:
        own = (low == a) & (high == b)
        features += list(np.einsum("pk,pxy->kxy", radial[own], tensor[own]))
    return np.array(features)


def random_turn(seed: int) -> np.ndarray:
    """A rotation matrix (3, 3), uniform over rotations."""
    return Rotation.random(random_state=seed).as_matrix()
