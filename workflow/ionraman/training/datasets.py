"""Data sets of a training: every accepted label, its level of theory checked, and the list of those that were rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ionraman.training import checks
from ionraman.training.settings import Checks


class LevelMismatch(ValueError):
    """Labels of different levels of theory would be mixed."""


def one_level(frames: Sequence[Atoms], kind: str) -> tuple[str, dict[str, str]]:
    """The level that all frames share, and the pseudopotential of each element.

    Raises:
        LevelMismatch: names both levels, or both pseudopotentials of an element, and a material of each.
    """
    level, pseudo = {}, {}
    for atoms in frames:
        level.setdefault(str(atoms.info.get("level", "not stated")), str(atoms.info["material"]))
        for word in str(atoms.info.get("pseudopotentials", "")).split():
            element, _, digest = word.partition(":")
            if pseudo.setdefault(element, digest) != digest:
                raise LevelMismatch(
                    f"Labels ({kind}) of {element} were made with two pseudopotentials, {pseudo[element]} and {digest}: one "
                    "level of theory per data set. Label one part again."
                )
    if len(level) > 1:
        listed = "; ".join(f"{name!r} ({material})" for name, material in level.items())
        raise LevelMismatch(
            f"Labels ({kind}) of {len(level)} levels of theory cannot be merged: {listed}. Label one part again, or leave it out "
            "of training.imports."
        )
    return next(iter(level), ""), pseudo


def accepted(
    kind: str, frames: list[Atoms], limits: Checks
) -> tuple[list[Atoms], list[dict], dict[str, str]]:
    """Frames that pass the checks against their set.

    Returns:
        The frames; for each rejected one its name and reason; what was said about a material's orientation.
    """
    if not frames:
        return [], [], {}
    compositions = [atoms.get_chemical_formula("hill", empirical=True) for atoms in frames]
    if kind == "alpha":
        alpha = np.array([np.reshape(atoms.info["alpha_A3"], (3, 3)) for atoms in frames])
        scale = np.trace(alpha, axis1=1, axis2=2) / 3 / [len(atoms) for atoms in frames]
        findings = checks.wrong_scale(scale, compositions, limits.unit_factor, "its polarizability per atom")
        sound = [k for k in range(len(frames)) if k not in {finding.index for finding in findings}]
        materials = [_crystal(frames[k], compositions[k]) for k in sound]
        turned, judged = checks.turned_tensors(
            [frames[k] for k in sound], alpha[sound], materials, limits.rotation_factor
        )
        findings += [checks.Finding(sound[finding.index], finding.reason) for finding in turned]
    else:
        energies = [atoms.info["REF_energy"] / len(atoms) for atoms in frames]
        findings = checks.far_energies(energies, compositions, limits.energy_eV_atom)
        forces = [atoms.arrays["REF_forces"] for atoms in frames]
        reference = [atoms.arrays.get("sample_forces") for atoms in frames]
        findings += checks.unlike_forces(forces, reference, limits.unit_factor)
        # Forces vary with amplitude and temperature: without a reference only a large factor is a finding, and none for a frame
        # that was given less weight, such as a close contact, unless its whole file is wrong.
        alone = [k for k, other in enumerate(reference) if other is None]
        size = [float(np.sqrt((forces[k] ** 2).mean())) for k in alone]
        names = [compositions[k] for k in alone]
        files = [str(frames[k].info.get("source", "")).rpartition("[")[0] for k in alone]
        factor = limits.unit_factor**2
        found = checks.large_forces(size, names, factor)
        found = [finding for finding in found if frames[alone[finding.index]].info.get("config_weight", 1) >= 1]
        found += checks.small_files(size, names, files, factor)
        findings += [checks.Finding(alone[finding.index], finding.reason) for finding in found]
        judged = {}
    reasons: dict[int, str] = {}
    for finding in findings:
        reasons.setdefault(finding.index, finding.reason)
    rejected = [{"name": name_of(frames[k]), "reason": reason} for k, reason in sorted(reasons.items())]
    return [atoms for k, atoms in enumerate(frames) if k not in reasons], rejected, judged


def _crystal(atoms: Atoms, composition: str) -> str:
    # Single displaced ions are as good a test of orientation as the dynamics of the same cell.
    return f"{composition} ({len(atoms)} atoms)"


def name_of(atoms: Atoms) -> str:
    """How a message calls a configuration."""
    number = atoms.info.get("number")
    return str(
        atoms.info.get("source") or f"{atoms.info.get('run')}" + ("" if number is None else f" #{number}")
    )


def summary(frames: Sequence[Atoms]) -> dict[str, dict[str, int]]:
    """Numbers of frames by material and split."""
    table: dict[str, Counter] = {}
    for atoms in frames:
        table.setdefault(str(atoms.info["material"]), Counter())[str(atoms.info["split"])] += 1
    return {material: dict(counts) for material, counts in sorted(table.items())}


def compositions(frames: Sequence[Atoms]) -> list[dict[str, float]]:
    """Distinct compositions as atomic fractions, for the card of a model (`ionraman.trust`)."""
    found = {}
    for atoms in frames:
        formula = atoms.get_chemical_formula("hill", empirical=True)
        counts = Counter(atoms.get_chemical_symbols())
        found[formula] = {symbol: round(count / len(atoms), 6) for symbol, count in sorted(counts.items())}
    return [found[formula] for formula in sorted(found)]
