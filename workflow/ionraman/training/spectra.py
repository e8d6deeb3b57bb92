"""The spectrum itself: I_low of a trained polarizability model and of a larger one, along one trajectory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from ionraman.marker import low_frequency
from ionraman.polarizability import PolarizabilityModel
from ionraman.raman import highest_line_cm, spectral_density
from ionraman.training.settings import Sample, Validate
from ionraman.training.validation import Check, limited, relaxed, repeated, unphysical

INTERVAL_FS = 10.0
"""Interval of the frames; overtones of lines up to 800 cm^-1 do not fold (conventions)."""

EQUILIBRATION_PS = 2.0


def against_reference(
    material: str,
    cell: Atoms,
    calculator,
    model: PolarizabilityModel,
    reference: PolarizabilityModel,
    sample: Sample,
    limits: Validate,
    report: Callable[[str], None],
) -> Check:
    """I_low (5 to 50 cm^-1, or from what the run resolves) of the mean of the ensemble against that of `reference`.

    Both see the same frames, `limits.reference_ps` of NVE after Langevin dynamics, so that the statistical error of a spectrum, which
    is much larger than what is asked for here, is nearly the same in both.
    """
    name, limit, temperature = "I_low", limits.reference_intensity, min(limits.nvt_temperatures_K)
    missing = sorted(set(cell.get_chemical_symbols()) - set(reference.elements))
    if missing:
        note = f"{limits.reference_alpha} does not know {', '.join(missing)}"
        return limited(name, material, None, limit, "relative", note)
    frames, velocities, reason = _trajectory(material, cell, calculator, temperature, sample, limits)
    if reason:
        report(f"{material}: no spectrum: {reason}")
        return Check(name, material, None, limit, "relative", False, reason)
    highest = highest_line_cm(velocities, INTERVAL_FS / 1000)
    values = []
    for each in (model, reference):
        alpha = each.predict(frames).sum(axis=2).mean(axis=1)
        density = spectral_density(alpha, INTERVAL_FS / 1000, frames[0].get_volume())
        values.append(low_frequency(density, temperature, n_atoms=len(frames[0]), nu_max_cm=1.15 * highest))
    own, other = values
    note = (
        f"{own.I_low_A3:.3g} against {other.I_low_A3:.3g} A^3 of {limits.reference_alpha}, {own.nu1_cm:g} to {own.nu2_cm:g} cm^-1, "
        f"{len(frames[0])} atoms, {limits.reference_ps:g} ps at {temperature:g} K"
    )
    report(f"{material}: I_low {note}")
    return limited(name, material, own.I_low_A3 / other.I_low_A3 - 1, limit, "relative", note)


def _trajectory(
    material: str, cell: Atoms, calculator, temperature_K: float, sample: Sample, limits: Validate
) -> tuple[list[Atoms], np.ndarray, str]:
    """Frames, their velocities (frames, atoms, 3), and why the run had to end, empty if it did not."""
    atoms = repeated(relaxed(cell, calculator), limits.run_atoms)
    atoms.calc = calculator
    timestep = min(sample.timestep_fs, 0.5) if "H" in cell.symbols else sample.timestep_fs
    every = max(1, round(INTERVAL_FS / timestep))
    rng = np.random.default_rng([13, *material.encode()])
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature_K, rng=rng)
    Langevin(atoms, timestep * units.fs, temperature_K=temperature_K, friction=0.01 / units.fs, rng=rng).run(
        round(1000 * EQUILIBRATION_PS / timestep)
    )
    engine = VelocityVerlet(atoms, INTERVAL_FS / every * units.fs)
    frames, velocities = [], []
    for number in range(round(1000 * limits.reference_ps / INTERVAL_FS)):
        engine.run(every)
        frames.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
        velocities.append(atoms.get_velocities())
        if number % 10 == 0 and (reason := unphysical(atoms, temperature_K)):
            return frames, np.array(velocities), reason
    return frames, np.array(velocities), ""
