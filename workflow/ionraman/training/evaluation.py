"""Errors of fitted models on held-out frames, and the disagreement of an ensemble on frames without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from ionraman import polarizability, potentials
from ionraman.polarizability import PolarizabilityModel
from ionraman.raman import POWDER, stokes_factor
from ionraman.training import fits, physical
from ionraman.training import polarizability as dielectric
from ionraman.training.settings import AlphaFit
from ionraman.training.validation import WAVENUMBER
from ionraman.units import KB_EV

GPA = 160.2176634
"""1 eV/A^3 in GPa."""

SILENT = 2e-4
"""Change of the labels' tensors, over their size, below which displaced modes show no first-order line: what converged labels scatter by."""

SOFT_A = 0.19
"""Root mean square displacement at 600 K above which a mode of a cell is soft: below 1.5 eV/A^2, some 130 cm^-1 of a sulphide."""


def force_errors(calculator, frames: Sequence[Atoms]) -> dict[str, dict]:
    """Root mean square errors per material: forces (meV/A), energy (meV/atom), stress (GPa, where labelled)."""
    squares: dict[str, dict[str, list]] = {}
    for atoms in frames:
        trial = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        trial.calc = calculator
        row = squares.setdefault(str(atoms.info["material"]), {"force": [], "energy": [], "stress": []})
        row["force"].append(((trial.get_forces() - atoms.arrays["REF_forces"]) ** 2).mean())
        row["energy"].append(((trial.get_potential_energy() - atoms.info["REF_energy"]) / len(atoms)) ** 2)
        if "REF_stress" in atoms.info:
            row["stress"].append(((trial.get_stress() - np.asarray(atoms.info["REF_stress"])) ** 2).mean())
    return {
        material: {
            "frames": len(row["force"]),
            "force_rmse_meV_A": _root(row["force"]) * 1000,
            "energy_rmse_meV_atom": _root(row["energy"]) * 1000,
            "stress_rmse_GPa": _root(row["stress"]) * GPA if row["stress"] else None,
        }
        for material, row in sorted(squares.items())
    }


def ensemble(files: list[Path], settings: AlphaFit, device: str) -> PolarizabilityModel:
    """Members of one ensemble as a model that predicts."""
    members, _, standard, _ = fits.load_members(files, settings)
    return standard.model(members, device)


def alpha_errors(
    model: PolarizabilityModel, held_out: Sequence[Atoms], everything: Sequence[Atoms]
) -> dict[str, dict]:
    """Errors of the ensemble's mean per material, relative to the thermal deviation over all labelled frames of it.

    Adds `intensity`: relative error of the mean of 45 (a - <a>)^2 + 7 gamma^2 of (alpha - <alpha>), to which the integrated
    Raman intensity of a powder is proportional; <> the labels' mean of the material.
    """
    if not held_out:
        return {}
    thermal = [atoms for atoms in everything if atoms.info["split"] not in ("ion", "mode")]
    known, groups = fits.labels_of(thermal)
    alpha, materials = fits.labels_of(list(held_out))
    predicted = model.predict(list(held_out)).sum(axis=2).mean(axis=1)
    table = dielectric.relative_errors(predicted, alpha, materials, (known, groups))
    for material, row in table.items():
        own = np.array([name == material for name in materials])
        mean = known[[name == material for name in groups]].mean(axis=0)
        label = _intensity(alpha[own] - mean)
        row["intensity"] = float(_intensity(predicted[own] - mean) / label - 1)
    return table


def ion_response(model: PolarizabilityModel, frames: Sequence[Atoms]) -> dict[str, dict]:
    """Per material with displaced single ions: relative error of alpha(displaced) - alpha(reference) against the labels.

    This is dalpha/dr by finite differences, from first principles and from the model, in cells where an ion is far from
    its images. The parts are given too: the isotropic one is that in which labels that are not converged (tr2_ph) differ.
    """
    table = {}
    for material in sorted({str(atoms.info["material"]) for atoms in frames}):
        own = [atoms for atoms in frames if atoms.info["material"] == material]
        reference = [atoms for atoms in own if atoms.info["ion"] < 0]
        moved = [atoms for atoms in own if atoms.info["ion"] >= 0]
        if not reference or not moved:
            continue
        alpha, _ = fits.labels_of([reference[0], *moved])
        predicted = model.predict([reference[0], *moved]).sum(axis=2).mean(axis=1)
        counts = {"ions": len(moved), "atoms": len(moved[0])}
        table[material] = counts | change_errors(predicted[1:] - predicted[0], alpha[1:] - alpha[0])
    return table


def tensor_response(model: PolarizabilityModel, atoms: Atoms) -> dict[str, dict]:
    """|error| / |change| (`change_errors`) against Raman tensors of the ions of each species, and along the soft thermal modes of the cell.

    atoms: with the arrays dalpha_dr_A2 and hessian_eV_A2 of `scripts/training/raman_tensors.py`. Soft are modes that heat moves by more than
    `SOFT_A`. Rows have besides: count; size, of the labels, root mean square in A^2 (A^3 of all modes together); amplitude, of the model over
    that of the labels: the intensity goes with its square.
    """
    predicted = model.predict(physical.displaced(atoms)).sum(axis=2).mean(axis=1)
    predicted = (predicted[::2] - predicted[1::2]) / (2 * physical.STEP_A)
    label, symbols = atoms.arrays["dalpha_dr_A2"].reshape(-1, 3, 3), np.repeat(atoms.get_chemical_symbols(), 3)
    parts = {symbol: (predicted[symbols == symbol], label[symbols == symbol]) for symbol in map(str, dict.fromkeys(symbols))}
    modes = physical.thermal_modes(atoms)
    modes = modes[:, np.linalg.norm(modes, axis=0) > SOFT_A]
    rows = {symbol: {"count": len(of_labels) // 3, "size": np.linalg.norm(of_labels) / np.sqrt(len(of_labels))} for symbol, (_, of_labels) in parts.items()}
    parts["soft modes"] = tuple(np.tensordot(modes.T, tensors, 1) for tensors in (predicted, label))
    rows["soft modes"] = {"count": modes.shape[1] - 3, "size": np.linalg.norm(parts["soft modes"][1])}  # without translations
    for name, (of_model, of_labels) in parts.items():
        rows[name] |= {"amplitude": np.linalg.norm(of_model) / np.linalg.norm(of_labels)} | change_errors(of_model, of_labels)
    return rows


def mode_response(model: PolarizabilityModel, frames: Sequence[Atoms]) -> dict[str, dict]:
    """Per material with displaced Gamma modes: their first-order Raman intensities at 300 K from the labels and from the model.

    Returns:
        wavenumber_cm, label_A3, model_A3: lists over modes, intensities as in `mode_intensities`; relative_error of their sums,
        None where the labels show no line (forbidden by symmetry); tensor_error: |error| / |change| of the tensors.
    """
    table = {}
    for material in sorted({str(atoms.info["material"]) for atoms in frames}):
        sides: dict[int, dict[bool, Atoms]] = {}
        for atoms in frames:
            if atoms.info["material"] == material:
                sides.setdefault(int(atoms.info["mode"]), {})[atoms.info["coordinate"] > 0] = atoms
        pairs = [pair for _, pair in sorted(sides.items()) if len(pair) == 2]
        if not pairs:
            continue
        up, down = ([pair[side] for pair in pairs] for side in (True, False))
        (above, _), (below, _) = fits.labels_of(up), fits.labels_of(down)
        predicted = model.predict(up).sum(axis=2).mean(axis=1) - model.predict(down).sum(axis=2).mean(axis=1)
        label = above - below
        lines = [mode_intensities(change, up, 300.0) for change in (label, predicted)]
        silent = np.linalg.norm(label) < SILENT * np.linalg.norm(above)
        table[material] = {
            "modes": len(pairs),
            "wavenumber_cm": [float(atoms.info["wavenumber_cm"]) for atoms in up],
            "label_A3": lines[0].tolist(),
            "model_A3": lines[1].tolist(),
            "relative_error": None if silent else float(lines[1].sum() / lines[0].sum() - 1),
            "tensor_error": None if silent else change_errors(predicted, label)["relative_error"],
        }
    return table


def mode_intensities(change: np.ndarray, up: Sequence[Atoms], temperature_K: float, laser_nm: float = 785.0) -> np.ndarray:
    """(modes,) Stokes intensities of harmonic modes in a powder, A^3: the integral of I over the line (conventions, H1).

    (1/2V) (kB T/w^2) (45 a'^2 + 7 gamma'^2)/45, times the factors of laser and temperature.

    Args:
        change: (modes, 3, 3) alpha(+Q) - alpha(-Q) in A^3; up: the cells at +Q, with info wavenumber_cm and coordinate.
    """  # fmt: skip
    coordinate = np.array([atoms.info["coordinate"] for atoms in up])
    wavenumber = np.array([atoms.info["wavenumber_cm"] for atoms in up])
    volume = np.array([atoms.get_volume() for atoms in up])
    size = _powder(change / (2 * coordinate[:, None, None])) / 45
    variance = KB_EV * temperature_K / (wavenumber / WAVENUMBER) ** 2
    return stokes_factor(wavenumber, temperature_K, laser_nm) * variance * size / (2 * volume)


def change_errors(predicted: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """|error| / |change| of changes of alpha, (changes, 3, 3) in A^3: of the tensors, of their isotropic and of their anisotropic parts."""
    parts = zip(dielectric.isotropic_anisotropic(predicted - label), dielectric.isotropic_anisotropic(label), strict=True)
    # By symmetry a part may not change at all.
    isotropic, anisotropic = (float(np.linalg.norm(wrong) / max(np.linalg.norm(right), 1e-9)) for wrong, right in parts)
    whole = float(np.linalg.norm(predicted - label) / np.linalg.norm(label))
    return {"relative_error": whole, "isotropic": isotropic, "anisotropic": anisotropic}


def force_disagreement(frames: Sequence[Atoms], folders: Sequence[Path], device: str) -> np.ndarray:
    """(frames,) largest standard deviation of a force component's vector over the members, eV/A, over the atoms of a frame."""
    calculators = [potentials.load(folder).calculator(device, "float32") for folder in folders]
    values = []
    for atoms in frames:
        forces = []
        for calculator in calculators:
            trial = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
            trial.calc = calculator
            forces.append(trial.get_forces())
        values.append(np.sqrt(np.var(forces, axis=0).sum(axis=1)).max())
    return np.array(values)


def alpha_disagreement(frames: Sequence[Atoms], folder: Path, device: str) -> np.ndarray:
    """(frames,) Frobenius norm of the standard deviation of the polarizability over the members of an ensemble, A^3."""
    alpha = polarizability.load(folder, torch.device(device)).predict(list(frames)).sum(axis=2)
    return np.sqrt(alpha.var(axis=1).sum(axis=(1, 2)))


def _intensity(deviation: np.ndarray) -> float:
    return float(_powder(deviation).mean())


def _powder(tensors: np.ndarray) -> np.ndarray:
    """45 a^2 + 7 gamma^2 of (n, 3, 3) tensors, in their unit squared (Long 2002, ch. 5); gamma^2 is 3/2 of beta's squared norm."""
    a, beta = dielectric.isotropic_anisotropic(tensors)
    weight_a, weight_gamma = POWDER["unpolarised"]
    return weight_a * a**2 + weight_gamma * 1.5 * (beta**2).sum(axis=(1, 2))


def _root(values: list[float]) -> float:
    return float(np.sqrt(np.mean(values)))
