"""Labels of configurations: made once, kept by the digest of configuration and level, read back with their checks.

Each label is a JSON record of its own, written whole: a killed job loses the label that it was making (and of that, for
Quantum ESPRESSO, only the program that had not finished). A record holds either the label or `rejected`, a sentence.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import filetype, open_with_compression

from ionraman.training import espresso
from ionraman.training.calculators import Served, TeacherError
from ionraman.training.checks import force_problem, polarizability_problem
from ionraman.training.espresso import LabelRejected
from ionraman.training.settings import Checks, Import, Training
from ionraman.trajectory import read_json, write_json


def key(atoms: Atoms, level_digest: str) -> str:
    """Name of a label: digest of the configuration (positions to 1e-6 A) and of the settings that decide its level."""
    digest = hashlib.sha256(level_digest.encode())
    for array in (atoms.numbers, np.round(atoms.positions, 6) + 0.0, np.round(atoms.cell.array, 6) + 0.0):
        digest.update(np.ascontiguousarray(array, dtype=float).tobytes())
    return digest.hexdigest()[:20]


def record_path(pool: Path, kind: str, atoms: Atoms, training: Training) -> Path:
    """Where the label of a configuration lies: `<pool>/<kind>/<key>/label.json`."""
    digest = training.digest("teacher" if kind == "force" else "espresso")
    return pool / kind / key(atoms, digest) / "label.json"


def make_labels(
    kind: str, frames: Sequence[Atoms], pool: Path, training: Training, report: Callable[[str], None]
) -> dict[str, int]:
    """Label the frames that have no record yet; the counts of new, kept and rejected labels.

    Raises:
        ProgramMissing, TeacherError: nothing can be labelled here.
    """
    counts = {"new": 0, "kept": 0, "rejected": 0}
    teacher: Served | None = None
    for number, atoms in enumerate(frames):
        path = record_path(pool, kind, atoms, training)
        if path.exists():
            counts["kept"] += 1
            continue
        try:
            if kind == "force":
                teacher = teacher or Served(training.teacher)
                record = _teacher_label(atoms, teacher, training)
            else:
                record = espresso.label(atoms, path.parent, training.espresso)
                problem = polarizability_problem(
                    record["epsilon"], record["alpha_A3"], atoms.get_volume(), training.checks
                )
                if problem:
                    raise LabelRejected(problem)
        except LabelRejected as error:
            record = {"rejected": str(error)}
            counts["rejected"] += 1
        write_json(path, record)
        counts["new"] += 1
        report(f"{number + 1}/{len(frames)} {path.parent.name} {record.get('rejected', 'done')}")
    if teacher:
        teacher.close()
    return counts


def _teacher_label(atoms: Atoms, teacher: Served, training: Training) -> dict:
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    try:
        teacher.calculate(plain)
    except TeacherError as error:
        if teacher.process.poll() is not None:
            raise
        raise LabelRejected(str(error)) from None
    energy, forces, stress = (teacher.results.get(name) for name in ("energy", "forces", "stress"))
    if problem := force_problem(energy, forces, stress):
        raise LabelRejected(problem)
    record = {"energy_eV": energy, "forces_eV_A": forces.tolist(), "level": training.teacher.level}
    return record | ({"stress_eV_A3": stress.tolist()} if stress is not None else {})


def read_label(kind: str, atoms: Atoms, pool: Path, training: Training) -> Atoms | str:
    """The labelled copy of a configuration, or the sentence that says why there is none.

    A polarizability is compared with what ph.x printed, and the cell in that output with the configuration's, so
    that a record that was altered, mixed up or turned afterwards is found.
    """
    path = record_path(pool, kind, atoms, training)
    if not path.exists():
        return f"no label was made ({path} is missing)"
    record = read_json(path)
    if "rejected" in record:
        return record["rejected"]
    if kind == "force":
        stress = np.array(record["stress_eV_A3"]) if "stress_eV_A3" in record else None
        forces = np.array(record["forces_eV_A"])
        if problem := force_problem(record["energy_eV"], forces, stress):
            return problem
        return labelled_force(atoms, record["energy_eV"], forces, stress, record["level"])
    epsilon, alpha = np.array(record["epsilon"]), np.array(record["alpha_A3"])
    if problem := polarizability_problem(epsilon, alpha, atoms.get_volume(), training.checks):
        return problem
    printed = espresso.printed_tensor(path.parent, atoms)
    if isinstance(printed, str):
        return printed
    if np.abs(printed - epsilon).max() > 1e-6 * np.abs(printed).max():
        turned = np.allclose(
            np.linalg.eigvalsh(_symmetric(printed)), np.linalg.eigvalsh(_symmetric(epsilon)), atol=1e-4
        )
        how = "turned against" if turned else "not"
        return f"the tensor of {path} is {how} the one that ph.x printed"
    return labelled_alpha(atoms, epsilon, record["level"], record["pseudopotentials"])


def labelled_force(
    atoms: Atoms, energy_eV: float, forces_eV_A: np.ndarray, stress_eV_A3: np.ndarray | None, level: str
) -> Atoms:
    """Copy with REF_energy (eV), REF_forces (eV/A), REF_stress (Voigt, eV/A^3) and its level."""
    copy = atoms.copy()
    copy.calc = None
    copy.info |= {"REF_energy": float(energy_eV), "level": level}
    copy.arrays["REF_forces"] = np.asarray(forces_eV_A)
    if stress_eV_A3 is not None:
        copy.info["REF_stress"] = np.asarray(stress_eV_A3)
    return copy


def labelled_alpha(atoms: Atoms, epsilon: np.ndarray, level: str, pseudopotentials: str = "") -> Atoms:
    """Copy with epsilon and alpha_A3 (nine numbers, symmetrised) and its level."""
    copy, epsilon = atoms.copy(), _symmetric(np.asarray(epsilon))
    copy.calc = None
    alpha = copy.get_volume() / (4 * np.pi) * (epsilon - np.eye(3))
    copy.info |= {"epsilon": epsilon.ravel(), "alpha_A3": alpha.ravel(), "level": level}
    if pseudopotentials:
        copy.info["pseudopotentials"] = pseudopotentials
    return copy


def read_import(item: Import, checks: Checks) -> tuple[list[Atoms], list[tuple[str, str]]]:
    """Labelled frames of a file that a group has already, and (name, reason) of those that are rejected.

    A VASP OUTCAR (its name holds OUTCAR) gives forces of every ionic step, or the tensor "including local field
    effects in DFT" with the last one; extended XYZ gives alpha_A3 or epsilon, or REF_energy, REF_forces, REF_stress
    (or what its columns `forces` and `energy` hold), of forces also config_weight, the weight of the frame in the fit.

    Raises:
        ValueError: the file cannot be read; the sentence names it.
    """
    file, outcar = Path(item.file), "OUTCAR" in Path(item.file).name
    try:
        text, kind = "", "vasp-out" if outcar else filetype(str(file))
        if kind in ("vasp-out", "extxyz"):
            with open_with_compression(str(file)) as stream:
                text = stream.read()
        # From memory: the reader goes back and forth, which in a compressed file means from its beginning each time.
        frames = ase.io.read(io.StringIO(text) if kind == "extxyz" else file, ":", format=kind)
    except Exception as error:  # readers raise errors of many kinds for a damaged file
        raise ValueError(
            f"training.imports, {file}: it cannot be read ({type(error).__name__}: {error})."
        ) from None
    labelled, rejected = [], []
    if outcar and item.kind == "alpha":
        frames = frames[-1:]
    for number, atoms in enumerate(frames):
        name = f"{file}[{number}]"
        try:
            label = _outcar_label(atoms, text, item) if outcar else _xyz_label(atoms, item)
            if item.kind == "alpha":
                problem = polarizability_problem(
                    label.info.pop("raw_epsilon"), np.reshape(label.info.pop("raw_alpha"), (3, 3)),
                    label.get_volume(), checks,
                )  # fmt: skip
            else:
                stress = label.info.get("REF_stress")
                problem = force_problem(label.info["REF_energy"], label.arrays["REF_forces"], stress)
            if problem:
                raise LabelRejected(problem)
            material = item.material or atoms.info.get("material") or atoms.info.get("system")
            if material is None:
                raise LabelRejected("neither training.imports nor its info (material, system) says of which material it is")
        except (LabelRejected, KeyError, RuntimeError) as error:
            rejected.append((name, str(error)))
            continue
        label.info |= {
            "material": str(material),
            "run": str(atoms.info.get("run", file.name)),
            "split": "test" if item.held_out or atoms.info.get("split") == "test" else "train",
            "kind": "import",
            "source": name,
        }
        labelled.append(label)
    return labelled, rejected


def _outcar_label(atoms: Atoms, text: str, item: Import) -> Atoms:
    if "EDIFF was not reached" in text:
        raise LabelRejected("VASP did not converge: EDIFF was not reached")
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    if item.kind == "force":
        stress = atoms.calc.results.get("stress")
        return labelled_force(plain, atoms.get_potential_energy(), atoms.get_forces(), stress, item.level)
    blocks = re.findall(
        r"MACROSCOPIC STATIC DIELECTRIC TENSOR \(including local field[^\n]*\n[^\n]*\n((?:[^\n]*\n){3})", text
    )
    if not blocks:
        raise LabelRejected("it holds no dielectric tensor with local field effects (LEPSILON = .TRUE.)")
    epsilon = np.array(
        [[float(word) for word in line.split()[:3]] for line in blocks[-1].strip().splitlines()]
    )
    return _with_tensor(plain, epsilon, None, item.level)


def _xyz_label(atoms: Atoms, item: Import) -> Atoms:
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    if item.kind == "alpha":
        found = {
            name: np.reshape(atoms.info[name], (3, 3))
            for name in ("epsilon", "alpha_A3")
            if name in atoms.info
        }
        if not found:
            raise LabelRejected("it holds neither epsilon nor alpha_A3")
        label = _with_tensor(plain, found.get("epsilon"), found.get("alpha_A3"), item.level)
        if "temperature_K" in atoms.info:
            label.info["temperature_K"] = float(atoms.info["temperature_K"])
        return label
    results = atoms.calc.results if atoms.calc else {}
    energy = atoms.info.get("REF_energy", results.get("energy"))
    forces = atoms.arrays.get("REF_forces", results.get("forces"))
    if energy is None or forces is None:
        raise LabelRejected("it holds no energy or no forces (REF_energy, REF_forces, or energy and forces)")
    stress = atoms.info.get("REF_stress", results.get("stress"))
    label = labelled_force(plain, energy, forces, None if stress is None else _voigt(stress), item.level)
    if "config_weight" in atoms.info:
        label.info["config_weight"] = float(atoms.info["config_weight"])
    return label


def _with_tensor(atoms: Atoms, epsilon: np.ndarray | None, alpha: np.ndarray | None, level: str) -> Atoms:
    factor = atoms.get_volume() / (4 * np.pi)
    if epsilon is None:
        epsilon = np.eye(3) + alpha / factor
    label = labelled_alpha(atoms, epsilon, level)
    # As given, for the checks: symmetrising hides an asymmetric tensor.
    label.info["raw_epsilon"] = epsilon
    label.info["raw_alpha"] = factor * (epsilon - np.eye(3)) if alpha is None else alpha
    return label


def _voigt(stress: np.ndarray) -> np.ndarray:
    stress = np.asarray(stress, float)
    if stress.size == 6:
        return stress.ravel()
    full = stress.reshape(3, 3)
    return full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _symmetric(tensor: np.ndarray) -> np.ndarray:
    return (tensor + tensor.T) / 2
