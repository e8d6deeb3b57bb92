"""What a model must show before it is registered: each check with its value, its limit and the verdict.

A check that cannot be made (no held-out frames, no labeller to compare with) is listed as such; a check that fails refuses
the registration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE

from ionraman.guards import ALKALI, ALKALI_OVERLAP, HOT, OVERLAP
from ionraman.training.settings import Sample, Validate

WAVENUMBER = 521.4709
"""sqrt(eV/(A^2 u)) in cm^-1."""


@dataclass(frozen=True)
class Check:
    """One row of the report; passed is None where the check could not be made, and note says why."""

    name: str
    material: str
    value: float | None
    limit: float | None
    unit: str
    passed: bool | None
    note: str = ""

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)


def limited(name: str, material: str, value: float | None, limit: float, unit: str, note: str = "") -> Check:
    """A check that passes where |value| <= limit; None: it could not be made."""
    passed = None if value is None else bool(np.isfinite(value) and abs(value) <= limit)
    return Check(name, material, value, limit, unit, passed, note)


def from_errors(
    errors: dict[str, dict], limits: Validate, ions: dict[str, dict] | None = None, modes: dict[str, dict] | None = None
) -> list[Check]:
    """Checks of the held-out errors (`evaluation.force_errors`, `alpha_errors`), of single ions and of modes (`ion_response`, `mode_response`)."""
    rows = []
    for material, row in errors.get("force", {}).items():
        frames = f"{row['frames']} held-out frames"
        rows += [
            limited(
                "force error", material, row["force_rmse_meV_A"], limits.force_rmse_meV_A, "meV/A", frames
            ),
            limited(
                "energy error",
                material,
                row["energy_rmse_meV_atom"],
                limits.energy_rmse_meV_atom,
                "meV/atom",
                frames,
            ),
            limited("stress error", material, row["stress_rmse_GPa"], limits.stress_rmse_GPa, "GPa", frames),
        ]
    for material, row in errors.get("alpha", {}).items():
        frames = f"{row['frames']} held-out frames"
        rows += [
            limited(
                "polarizability, isotropic",
                material,
                row["isotropic"],
                limits.isotropic,
                "thermal sd",
                frames,
            ),
            limited(
                "polarizability, anisotropic",
                material,
                row["anisotropic"],
                limits.anisotropic,
                "thermal sd",
                frames,
            ),
            limited(
                "integrated Raman intensity", material, row["intensity"], limits.intensity, "relative", frames
            ),
        ]
    for material, row in (ions or {}).items():
        note = (
            f"{row['ions']} single ions displaced in {row['atoms']} atoms; isotropic part {row['isotropic']:.2f}, "
            f"anisotropic {row['anisotropic']:.2f}"
        )
        rows.append(
            limited("dalpha/dr", material, row["relative_error"], limits.ion_response, "relative", note)
        )
    for material, row in (modes or {}).items():
        note = f"first order, {row['modes']} Gamma modes of {row['wavenumber_cm'][0]:.0f} to {row['wavenumber_cm'][-1]:.0f} cm^-1"
        if row["relative_error"] is None:
            note += "; the labels show no line"
        else:
            note += f": {sum(row['model_A3']):.3g} against {sum(row['label_A3']):.3g} A^3; tensors {row['tensor_error']:.2f}"
        rows.append(limited("low-frequency intensity", material, row["relative_error"], limits.mode_intensity, "relative", note))
    for kind, table in errors.items():
        if not table:
            rows.append(Check(f"{kind} errors", "all", None, None, "", False, "no frames were held out"))
    return rows


def targets_met(errors: dict[str, dict[str, dict]], limits: Validate) -> bool:
    """Whether every held-out error of every material meets its target; False where nothing was held out."""
    return all(errors.values()) and all(row.passed for row in from_errors(errors, limits) if row.value is not None)


def relaxed(atoms: Atoms, calculator, fmax_eV_A: float = 0.005, steps: int = 500) -> Atoms:
    """Copy with positions and cell at the minimum of the potential energy."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.calc = calculator
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=fmax_eV_A, steps=steps)
    return atoms


def hessian(atoms: Atoms, calculator, step_A: float = 0.01) -> np.ndarray:
    """Second derivatives of the energy (3 atoms, 3 atoms) in eV/A^2, by central differences of forces."""
    trial = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    trial.calc = calculator
    count = len(trial)
    found = np.empty((3 * count, 3 * count))
    for atom in range(count):
        for axis in range(3):
            forces = []
            for sign in (1, -1):
                trial.positions = atoms.positions
                trial.positions[atom, axis] += sign * step_A
                forces.append(trial.get_forces().ravel())
            found[3 * atom + axis] = (forces[1] - forces[0]) / (2 * step_A)
    return (found + found.T) / 2


def gamma_modes(atoms: Atoms, calculator) -> tuple[np.ndarray, np.ndarray]:
    """Modes at Gamma of the cell (`hessian`).

    Returns:
        Wavenumbers (3 atoms,) in cm^-1, ascending, imaginary ones negative, and for each mode the displacement of the atoms
        (3 atoms, atoms, 3) in A at a mass-weighted coordinate of 1 A u^(1/2).
    """
    weight = np.repeat(atoms.get_masses(), 3) ** -0.5
    values, vectors = np.linalg.eigh(hessian(atoms, calculator) * weight[:, None] * weight[None, :])
    return np.sign(values) * np.sqrt(np.abs(values)) * WAVENUMBER, (vectors.T * weight).reshape(-1, len(atoms), 3)


def against_labeller(
    material: str, cell: Atoms, student, teacher, limits: Validate, report: Callable[[str], None]
) -> list[Check]:
    """Lattice constants and Gamma phonons of the relaxed cell, of the model and of the labeller."""
    own, other = relaxed(cell, student), relaxed(cell, teacher)
    lengths = 100 * (own.cell.lengths() / other.cell.lengths() - 1)
    worst = float(lengths[np.argmax(np.abs(lengths))])
    note = f"model {_words(own.cell.lengths())} A, labeller {_words(other.cell.lengths())} A"
    rows = [limited("lattice constants", material, worst, limits.lattice_percent, "%", note)]
    report(f"{material}: lattice constants {worst:+.2f} %")
    if len(cell) <= limits.phonon_max_atoms:
        a, b = gamma_modes(own, student)[0], gamma_modes(other, teacher)[0]
        error = float(np.sqrt(((a - b)[3:] ** 2).mean())) if len(a) > 3 else 0.0
        note = f"{len(a) - 3} modes, highest {a[-1]:.0f} against {b[-1]:.0f} cm^-1, lowest {a.min():.0f} against {b.min():.0f}"
        rows.append(limited("Gamma phonons", material, error, limits.phonon_rmse_cm, "cm^-1", note))
        report(f"{material}: Gamma phonons within {error:.1f} cm^-1")
    else:
        note = f"{len(cell)} atoms, more than phonon_max_atoms"
        rows.append(Check("Gamma phonons", material, None, limits.phonon_rmse_cm, "cm^-1", None, note))
    return rows


def stability(
    material: str, cell: Atoms, student, sample: Sample, limits: Validate, report: Callable[[str], None]
) -> list[Check]:
    """NVT runs that must stay in the physical range, then NVE from the end of the coolest, whose energy must not drift."""
    rows, timestep = [], min(sample.timestep_fs, 0.5) if "H" in cell.symbols else sample.timestep_fs
    start = repeated(relaxed(cell, student), limits.run_atoms)
    coolest = None
    for temperature in sorted(limits.nvt_temperatures_K):
        atoms = start.copy()
        atoms.calc = student
        rng = np.random.default_rng([11, round(temperature)])
        MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
        engine = Langevin(
            atoms, timestep * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng
        )
        steps, done, reason = round(1000 * limits.nvt_ps / timestep), 0, ""
        while done < steps and not reason:
            engine.run(min(25, steps - done))
            done += min(25, steps - done)
            reason = unphysical(atoms, temperature)
        name, note = f"NVT at {temperature:g} K", reason or f"{len(atoms)} atoms"
        reached = done * timestep / 1000
        rows.append(Check(name, material, reached, limits.nvt_ps, "ps reached", not reason, note))
        report(f"{material}: {name} {'stopped: ' + reason if reason else 'stable'} after {reached:g} ps")
        coolest = coolest if coolest is not None or reason else atoms
    if coolest is None:
        note = "no NVT run was stable"
        return [*rows, Check("NVE drift", material, None, limits.nve_drift_meV_atom, "meV/atom", False, note)]
    engine, energies = VelocityVerlet(coolest, timestep * units.fs), []
    for _ in range(max(4, round(1000 * limits.nve_ps / timestep / 10))):
        engine.run(10)
        energies.append(coolest.get_total_energy() / len(coolest) * 1000)
    slope = np.polyfit(np.linspace(0, 1, len(energies)), energies, 1)[0]
    note = f"{limits.nve_ps:g} ps at {min(limits.nvt_temperatures_K):g} K, {timestep:g} fs"
    rows.append(limited("NVE drift", material, float(slope), limits.nve_drift_meV_atom, "meV/atom", note))
    report(f"{material}: NVE drift {slope:+.3f} meV/atom")
    return rows


def refused(rows: Sequence[Check]) -> list[str]:
    """Sentences that say why a model is not registered; none if it may be."""
    sentences = []
    for row in rows:
        if row.passed is False:
            value = "" if row.value is None else f": {row.value:.3g} {row.unit}"
            limit = "" if row.limit is None else f", allowed {row.limit:g}"
            sentences.append(
                f"{row.name} of {row.material}{value}{limit}" + (f" ({row.note})" if row.note else "")
            )
    return sentences


def markdown(rows: Sequence[Check], title: str) -> str:
    """The report as a table."""
    words = {True: "passed", False: "**failed**", None: "not checked"}
    lines = [
        f"# {title}",
        "",
        "| check | material | value | limit | unit | verdict | note |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        value, limit = (("" if number is None else f"{number:.3g}") for number in (row.value, row.limit))
        lines.append(
            f"| {row.name} | {row.material} | {value} | {limit} | {row.unit} | {words[row.passed]} | {row.note} |"
        )
    return "\n".join(lines) + "\n"


def repeated(atoms: Atoms, at_least: int) -> Atoms:
    """Supercell of at least so many atoms, the shortest vector repeated first."""
    times = np.ones(3, int)
    while len(atoms) * times.prod() < at_least:
        times[np.argmin(atoms.cell.lengths() * times)] += 1
    return atoms.repeat(times)


def unphysical(atoms: Atoms, target_K: float) -> str:
    """Why a frame is outside the physical range (limits of `ionraman.guards`); empty if it is not."""
    temperature = atoms.get_temperature()
    if not np.isfinite(atoms.get_potential_energy()) or not np.isfinite(temperature):
        return "the energy became NaN"
    if temperature > HOT * target_K:
        return f"the temperature reached {temperature:.0f} K"
    reach = 2 * OVERLAP * covalent_radii[atoms.numbers].max()
    first, second, distance = neighbor_list("ijd", atoms, reach)
    share = distance / (covalent_radii[atoms.numbers[first]] + covalent_radii[atoms.numbers[second]])
    alkali = np.isin(atoms.numbers, ALKALI)
    share = share / np.where(alkali[first] & alkali[second], ALKALI_OVERLAP, OVERLAP)
    if len(share) and share.min() < 1:
        k = int(np.argmin(share))
        return f"{atoms.symbols[first[k]]} and {atoms.symbols[second[k]]} came within {distance[k]:.2f} A"
    return ""


def _words(lengths: np.ndarray) -> str:
    return " ".join(f"{length:.3f}" for length in lengths)
