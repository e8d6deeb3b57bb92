"""Polarizability labels from Quantum ESPRESSO: pw.x, then ph.x with epsil; one folder per configuration, resumable.

    python label.py SNAPSHOTS.extxyz FOLDER PSEUDO

Level: GTH-PBE, 30 Ry, shifted 2x2x2 k-points, no symmetry, conv_thr 1e-9, tr2_ph 1e-9. What did not converge is named and
left out. FOLDER/labels.extxyz collects what is there.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
from ase.io.espresso import read_espresso_ph, write_espresso_in

PHONON = "eps\n&INPUTPH prefix='x', outdir='{out}', epsil=.true., trans=.false., zeu=.false., tr2_ph=1.0d-9, alpha_mix(1)=0.5 /\n0 0 0\n"


def label(atoms: ase.Atoms, folder: Path, pseudo: Path) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    scratch, start = folder / "tmp", time.time()
    data = {
        "control": {"calculation": "scf", "prefix": "x", "outdir": str(scratch), "pseudo_dir": str(pseudo), "tprnfor": True},
        "system": {"ecutwfc": 30, "occupations": "fixed", "nosym": True},
        "electrons": {"conv_thr": 1e-9, "mixing_beta": 0.5},
    }
    with open(folder / "scf.in", "w") as file:
        names = {symbol: f"{symbol}.UPF" for symbol in set(atoms.symbols)}
        write_espresso_in(file, atoms, input_data=data, pseudopotentials=names, kpts=(2, 2, 2), koffset=(1, 1, 1))
    (folder / "ph.in").write_text(PHONON.format(out=scratch))
    for program, stem in (("pw.x", "scf"), ("ph.x", "ph")):
        with open(folder / f"{stem}.in") as source, open(folder / f"{stem}.out", "w") as sink:
            subprocess.run([program], stdin=source, stdout=sink, stderr=subprocess.STDOUT, check=True)
    shutil.rmtree(scratch)
    with open(folder / "ph.out") as file:
        epsilon = np.array(read_espresso_ph(file)[1]["dieltensor"])
    if not np.isfinite(epsilon).all() or np.abs(epsilon - epsilon.T).max() > 0.02:
        raise ValueError(f"the dielectric tensor is not finite and symmetric: {epsilon.tolist()}")
    epsilon = (epsilon + epsilon.T) / 2
    scf = ase.io.read(folder / "scf.out")
    return {
        "epsilon": epsilon.tolist(),
        "alpha_A3": (atoms.get_volume() / (4 * np.pi) * (epsilon - np.eye(3))).tolist(),
        "energy_eV_qe": float(scf.get_potential_energy()),
        "forces_qe": scf.get_forces().tolist(),
        "seconds": time.time() - start,
    }


if __name__ == "__main__":
    snapshots, root, pseudo = ase.io.read(sys.argv[1], ":"), Path(sys.argv[2]), Path(sys.argv[3])
    labelled = []
    for atoms in snapshots:
        folder = root / f"{atoms.info['run']}-{atoms.info['frame']}"
        if not (folder / "label.json").exists():
            try:
                (folder / "label.json").write_text(json.dumps(label(atoms, folder, pseudo)))
            except (subprocess.CalledProcessError, ValueError, KeyError, AssertionError) as error:
                print(f"{folder.name} is left out: {error}", flush=True)
                continue
        record = json.loads((folder / "label.json").read_text())
        atoms.arrays["forces_qe"] = np.array(record["forces_qe"])
        for key in ("epsilon", "alpha_A3"):
            atoms.info[key] = np.array(record[key]).ravel()
        atoms.info["energy_eV_qe"] = record["energy_eV_qe"]
        labelled.append(atoms)
        print(folder.name, np.round(np.diag(record["epsilon"]), 4), flush=True)
        ase.io.write(root / "labels.extxyz", labelled)
