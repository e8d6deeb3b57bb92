"""Configurations to label: Langevin dynamics, rattled and strained cells, and cells displaced along one ion or one mode.

Frames carry info: material, run (the trajectory), kind (md, rattle, ion, mode), split (train, valid, test, ion, mode), temperature_K,
and the forces of the model that made them (array `sample_forces`, eV/A). Splits are by trajectory, never by neighbouring
frame; rattled cells are each their own run and go to fits only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from ionraman.training.descriptors import farthest_points
from ionraman.training.settings import Sample
from ionraman.training.validation import gamma_modes, relaxed

FORCE_LIMIT_EV_A = 30.0
"""Frames with larger forces are no part of any trajectory worth learning; the trajectory ends there."""

RIGID_CM = 10.0
"""Below this wavenumber a mode at Gamma is a translation, or too soft for a harmonic intensity."""


@dataclass(frozen=True)
class Trajectory:
    """One run of the dynamics: name, temperature (K), relative change of lengths, split."""

    name: str
    temperature_K: float
    expansion: float
    split: str


def plan(sample: Sample, material: str, generation: int) -> list[Trajectory]:
    """The trajectories of a material, with the split of each (at least one for the test, one for the choice of the epoch)."""
    runs = list(product(range(sample.repeats), sample.temperatures_K, sample.expansions))
    order = np.random.default_rng([sample.seed, generation, 17]).permutation(len(runs))
    held = max(1, round(sample.held_out * len(runs)))
    valid = max(1, round(sample.valid * len(runs)))
    split = dict.fromkeys(order[:held], "test") | dict.fromkeys(order[held : held + valid], "valid")
    return [
        Trajectory(f"g{generation}-{material}-{T:g}K-{100 * e:+.3g}%-{r}", T, e, split.get(k, "train"))
        for k, (r, T, e) in enumerate(runs)
    ]


def dynamics(cell: Atoms, run: Trajectory, sample: Sample, calculator, material: str) -> list[Atoms]:
    """Frames of one Langevin trajectory; it ends early where forces exceed `FORCE_LIMIT_EV_A`."""
    timestep = min(sample.timestep_fs, 0.5) if "H" in cell.symbols else sample.timestep_fs
    rng = _generator(sample, run.name)
    atoms = _strained(cell, run.expansion * np.eye(3))
    atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
    atoms.calc = calculator
    # Half of the kinetic energy goes into the potential energy of the lattice.
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * run.temperature_K, rng=rng)
    engine = Langevin(
        atoms, timestep * units.fs, temperature_K=run.temperature_K, friction=0.02 / units.fs, rng=rng
    )
    engine.run(round(1000 * sample.equilibration_ps / timestep))
    every = max(1, round(sample.interval_fs / timestep))
    frames = []
    for _ in range(max(1, round(1000 * sample.length_ps / timestep / every))):
        engine.run(every)
        forces = atoms.get_forces()
        if not np.abs(forces).max() < FORCE_LIMIT_EV_A:
            break
        info = {"run": run.name, "kind": "md", "split": run.split, "temperature_K": run.temperature_K}
        frames.append(_frame(atoms, forces, material, info))
    return frames


def rattled(cell: Atoms, sample: Sample, calculator, material: str, generation: int) -> list[Atoms]:
    """Rattled and strained cells, `sample.rattled` of each amplitude, every second one around the relaxed cell."""
    bases = [cell, *_minimum(cell, calculator)] if sample.rattle_relaxed and sample.rattled and sample.rattle_A else [cell]
    frames = []
    for amplitude in sample.rattle_A:
        for number in range(sample.rattled):
            name = f"g{generation}-{material}-rattle{amplitude:g}-{number}"
            rng = _generator(sample, name)
            strain = rng.normal(0, sample.strain, (3, 3))
            atoms = _strained(bases[number % len(bases)], (strain + strain.T) / 2)
            atoms.positions += rng.normal(0, amplitude, atoms.positions.shape)
            atoms.calc = calculator
            forces = atoms.get_forces()
            if np.abs(forces).max() < FORCE_LIMIT_EV_A:
                frames.append(
                    _frame(atoms, forces, material, {"run": name, "kind": "rattle", "split": "train"})
                )
    return frames


def ions_displaced(cell: Atoms, count: int, sample: Sample, material: str) -> list[Atoms]:
    """The cell as it is, and `count` copies with one ion displaced by `ion_displacement_A`, species in turn."""
    rng = _generator(sample, f"ions-{material}")
    species = sorted(set(cell.get_chemical_symbols()))
    frames = [
        _frame(cell, None, material, {"run": f"ion-{material}", "kind": "ion", "split": "ion", "ion": -1})
    ]
    for number in range(count):
        atoms = cell.copy()
        choices = [k for k, symbol in enumerate(atoms.symbols) if symbol == species[number % len(species)]]
        ion = int(rng.choice(choices))
        direction = rng.normal(size=3)
        atoms.positions[ion] += sample.ion_displacement_A * direction / np.linalg.norm(direction)
        info = {"run": f"ion-{material}", "kind": "ion", "split": "ion", "ion": ion}
        frames.append(_frame(atoms, None, material, info))
    return frames


def modes_displaced(cell: Atoms, count: int, sample: Sample, calculator, material: str) -> list[Atoms]:
    """The relaxed cell displaced up and down along its `count` lowest Gamma modes above `RIGID_CM`; fewer where it has fewer.

    info: mode (its number), wavenumber_cm, coordinate (mass-weighted, A u^(1/2), signed). Imaginary modes have no harmonic
    intensity and are left out.
    """
    base = next(iter(_minimum(cell, calculator)), cell)
    wavenumbers, directions = gamma_modes(base, calculator)
    frames = []
    for mode in np.flatnonzero(wavenumbers > RIGID_CM)[:count]:
        step = sample.mode_displacement_A / np.linalg.norm(directions[mode], axis=1).max()
        for coordinate in (step, -step):
            atoms = base.copy()
            atoms.positions += coordinate * directions[mode]
            info = {"mode": int(mode), "wavenumber_cm": float(wavenumbers[mode]), "coordinate": float(coordinate)}
            frames.append(_frame(atoms, None, material, {"run": f"mode-{material}", "kind": "mode", "split": "mode"} | info))
    return frames


def choose(
    frames: list[Atoms],
    count: int,
    describe: Callable[[list[Atoms]], np.ndarray],
    sample: Sample,
    disagreement: np.ndarray | None = None,
) -> list[Atoms]:
    """`count` frames, the same share from each split as it has trajectories, diverse within each.

    Args:
        describe: descriptors of frames.
        disagreement: (frames,) of an ensemble; where given, training frames are chosen from the half with the most. Those
            to test on and to choose the epoch are not: errors on them would be those of outliers.
    """  # fmt: skip
    present = [name for name in ("test", "valid", "train") if any(a.info["split"] == name for a in frames)]
    wanted, left = {}, min(count, len(frames))
    for name, share in (("test", sample.held_out), ("valid", sample.valid)):
        if name in present and left > 1:
            wanted[name] = min(max(1, round(share * count)), left - 1)
            left -= wanted[name]
    wanted["train"] = left
    chosen = []
    for name in ("train", "valid", "test"):
        own = [k for k, atoms in enumerate(frames) if atoms.info["split"] == name]
        if not own or not wanted.get(name):
            continue
        if disagreement is not None and name == "train":
            own = sorted(sorted(own, key=lambda k: -disagreement[k])[: max(len(own) // 2, wanted[name])])
        if sample.choice == "even":
            picks = evenly([frames[k].info["run"] for k in own], wanted[name], sample.seed)
        else:
            picks = farthest_points(describe([frames[k] for k in own]), wanted[name])
        chosen += [frames[own[k]] for k in picks]
    return chosen


def evenly(runs: list[str], count: int, seed: int) -> list[int]:
    """Indices of `count` frames, the same number (within one) from each run, in equal parts of it, at random within each part.

    Where there are more runs than frames are wanted, they are taken in random order.
    """
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(sorted(set(runs)))]
    picks = []
    for number, name in enumerate(names):
        own = [k for k, run in enumerate(runs) if run == name]
        share = min(len(own), count // len(names) + (number < count % len(names)))
        picks += [own[int(rng.choice(part))] for part in np.array_split(np.arange(len(own)), share)] if share else []
    return picks


def trajectories(
    cell: Atoms,
    runs: list[Trajectory],
    sample: Sample,
    calculator,
    material: str,
    folder: Path,
    report: Callable[[str], None],
) -> list[Atoms]:
    """Frames of all runs; each is kept in `folder` when it is finished, so that a killed job loses one run."""  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for run in runs:
        file = folder / f"{run.name}.extxyz"
        if not file.exists():
            partial = file.with_suffix(".partial")
            made = dynamics(cell, run, sample, calculator, material)
            ase.io.write(partial, made, format="extxyz")
            partial.replace(file)
            report(f"{run.name} ({run.split}): {len(made)} frames")
        if file.stat().st_size:
            frames += ase.io.read(file, ":", format="extxyz")
    return frames


def _frame(atoms: Atoms, forces: np.ndarray | None, material: str, info: dict) -> Atoms:
    frame = Atoms(atoms.numbers, atoms.get_positions(wrap=True), cell=atoms.cell, pbc=True)
    frame.info = {"material": material, **info}
    if forces is not None:
        frame.arrays["sample_forces"] = np.array(forces)
    return frame


def _minimum(cell: Atoms, calculator) -> list[Atoms]:
    """The relaxed cell; nothing without a stress, or where the relaxation left what can be the same crystal."""
    if "stress" not in calculator.implemented_properties:
        return []
    found = relaxed(cell, calculator)
    change = found.get_volume() / cell.get_volume()
    return [found] if np.isfinite(found.positions).all() and 0.8 < change < 1.25 else []


def _strained(cell: Atoms, strain: np.ndarray) -> Atoms:
    atoms = Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def _generator(sample: Sample, name: str) -> np.random.Generator:
    return np.random.default_rng([sample.seed, *name.encode()])
