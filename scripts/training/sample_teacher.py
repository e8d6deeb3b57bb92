"""Configurations labelled by the teacher potential: rattled and strained cells, and Langevin dynamics.

python sample_teacher.py TEACHER SEED SECONDS OUT.extxyz
"""

import pathlib
import sys
import time

import ase
import ase.io
import numpy as np
from ase import units
from ase.build import make_supercell
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

BCC = [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]
CIF = pathlib.Path(__file__).resolve().parents[2] / "config/structures"
A0 = {"Na3SbS4_cub": 7.186, "Na3PS4_cub": 6.968, "NaCl": 5.573, "Na2S": 6.526}


def base(name):
    atoms = ase.io.read(CIF / f"{name}.cif")
    for key in list(atoms.arrays):
        if key not in ("numbers", "positions"):
            del atoms.arrays[key]
    atoms.info = {}
    if name in A0:
        atoms.set_cell(np.eye(3) * A0[name], scale_atoms=True)
    return atoms


def doped(name, n, rng, matrix=BCC):
    atoms = make_supercell(base(name), matrix)
    host = "Sb" if "Sb" in name else "P"
    sites = rng.choice([i for i, s in enumerate(atoms.symbols) if s == host], n, replace=False)
    for i in sites:
        atoms.symbols[i] = "W"
    na = [i for i, s in enumerate(atoms.symbols) if s == "Na"]
    del atoms[rng.choice(na, n, replace=False)]
    return atoms


def catalogue(rng):
    two = np.diag(rng.permutation([2, 1, 1]))
    mixed = make_supercell(base("Na3SbS4_cub"), BCC)
    for i in rng.choice([i for i, s in enumerate(mixed.symbols) if s == "Sb"], 4, replace=False):
        mixed.symbols[i] = "P"
    return {
        "Na3SbS4_cub": lambda: make_supercell(base("Na3SbS4_cub"), two),
        "Na3SbS4_tet": lambda: make_supercell(base("Na3SbS4_tet"), two),
        "Na3PS4_cub": lambda: make_supercell(base("Na3PS4_cub"), two),
        "Na3PS4_tet": lambda: make_supercell(base("Na3PS4_tet"), two),
        "Na3SbS4+W32": lambda: doped("Na3SbS4_cub", 1, rng, two),
        "Na3PS4+W32": lambda: doped("Na3PS4_cub", 1, rng, two),
        "Na3SbS4+W64": lambda: doped("Na3SbS4_cub", 1, rng),
        "Na3PS4+W64": lambda: doped("Na3PS4_cub", 1, rng),
        "Na3SbS4+2W64": lambda: doped("Na3SbS4_cub", 2, rng),
        "Na3PS4+2W64": lambda: doped("Na3PS4_cub", 2, rng),
        "NaCl": lambda: make_supercell(base("NaCl"), np.diag(rng.permutation([2, 2, 1]))),
        "Na2S": lambda: make_supercell(base("Na2S"), two),
    }


def strain(atoms, rng, T, sd):
    eps = rng.normal(0, sd, (3, 3))
    eps = (eps + eps.T) / 2
    F = (1 + 2.5e-5 * T * rng.uniform(0.2, 1.8)) * np.eye(3) + eps
    atoms.set_cell(atoms.cell.array @ F, scale_atoms=True)


def calculator(teacher):
    import matgl
    import torch
    from matgl.ext.ase import PESCalculator

    torch.set_num_threads(1)
    return PESCalculator(matgl.load_model(teacher), stress_unit="eV/A3")


def record(atoms, calc, **info):
    a = atoms.copy()
    a.info.update(info)
    a.calc = None
    out = ase.Atoms(numbers=a.numbers, positions=a.get_positions(wrap=True), cell=a.cell, pbc=True)
    out.info = {
        **{k: v for k, v in info.items()},
        "REF_energy": float(calc.results["energy"]),
        "REF_stress": np.array(atoms.get_stress(voigt=True)),
    }
    out.arrays["REF_forces"] = np.array(atoms.get_forces())
    return out


if __name__ == "__main__":
    teacher, seed, seconds, out = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    rng = np.random.default_rng(seed)
    calc = calculator(teacher)
    t0 = time.time()
    n = 0
    run = 0
    names = list(catalogue(rng))
    order = rng.permutation(len(names))
    while time.time() - t0 < seconds:
        name = names[order[run % len(names)]]
        run += 1
        T = float(rng.choice([300, 450, 600, 750, 900, 1100]))
        # rattled and strained
        for amp in (0.03, 0.08, 0.14):
            a = catalogue(rng)[name]()
            strain(a, rng, T, 0.02)
            a.positions += rng.normal(0, amp, a.positions.shape)
            a.calc = calc
            if np.abs(a.get_forces()).max() < 30:
                ase.io.write(
                    out,
                    record(a, calc, system=name, kind="rattle", temperature_K=T, run=f"{seed}-{run}r"),
                    append=True,
                )
                n += 1
        a = catalogue(rng)[name]()
        strain(a, rng, T, 0.006)
        a.positions += rng.normal(0, 0.03, a.positions.shape)
        a.calc = calc
        MaxwellBoltzmannDistribution(a, temperature_K=1.7 * T, rng=rng)
        dyn = Langevin(a, 2 * units.fs, temperature_K=T, friction=0.02 / units.fs, rng=rng)
        for k in range(12):
            dyn.run(14)
            if np.abs(a.get_forces()).max() > 30:
                break
            ase.io.write(
                out,
                record(a, calc, system=name, kind="md", temperature_K=T, run=f"{seed}-{run}"),
                append=True,
            )
            n += 1
        print(f"{time.time() - t0:.0f} s {n} frames {name} {len(a)} {T}", flush=True)
