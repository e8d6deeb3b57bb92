"""Snapshots for polarizability labels: Langevin MD with the teacher in 8-16 atom charge-balanced cells.

python snapshots.py TEACHER OUT.extxyz
"""

import sys

import ase.io
import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from sample_teacher import base, calculator, doped

EYE = np.eye(3, dtype=int)
calc = calculator(sys.argv[1])
out = []
for seed in (0, 1):
    for T in (600.0, 900.0, 300.0):
        for k, name in enumerate(["Na5SbWS8", "Na6Sb2S8", "Na5PWS8", "Na6P2S8", "NaCl"]):
            rng = np.random.default_rng(1000 * seed + 10 * k + int(T))
            a = {
                "Na5SbWS8": lambda: doped("Na3SbS4_cub", 1, rng, EYE),
                "Na5PWS8": lambda: doped("Na3PS4_cub", 1, rng, EYE),
                "Na6Sb2S8": lambda: base("Na3SbS4_cub"),
                "Na6P2S8": lambda: base("Na3PS4_cub"),
                "NaCl": lambda: base("NaCl"),
            }[name]()
            a.set_cell(a.cell.array * (1 + 2.5e-5 * T + rng.normal(0, 0.006)), scale_atoms=True)
            a.positions += rng.normal(0, 0.04, a.positions.shape)
            a.calc = calc
            MaxwellBoltzmannDistribution(a, temperature_K=1.6 * T, rng=rng)
            dyn = Langevin(a, 2 * units.fs, temperature_K=T, friction=0.02 / units.fs, rng=rng)
            for frame in range(4):
                dyn.run(90 if frame == 0 else 75)
                s = a.copy()
                s.calc = None
                s.wrap()
                s.set_velocities(np.zeros((len(s), 3)))
                del s.arrays["momenta"]
                s.info = dict(system=name, temperature_K=T, frame=frame, run=f"{name}-{int(T)}-{seed}")
                out.append((frame, seed, s))
            print(name, T, seed, np.abs(a.get_forces()).max(), flush=True)
            ase.io.write(sys.argv[2], [s for _, _, s in sorted(out, key=lambda x: (x[0] // 2, x[1]))])
