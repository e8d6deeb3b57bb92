"""Fit of a MACE force field with mace_run_train, in pieces that go on from each other."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms

from ionraman.training.polarizability import Unfinished
from ionraman.training.settings import ForceFit

NAME = "force"


class FitFailed(RuntimeError):
    """mace_run_train ended with an error."""


def separate_valid(frames: Sequence[Atoms]) -> tuple[list[Atoms], list[Atoms]]:
    """Training frames and those that choose the best epoch: the runs marked valid or, if there are none, one run in ten.

    Raises:
        FitFailed: all frames are of one run.
    """
    valid = [atoms for atoms in frames if atoms.info["split"] == "valid"]
    train = [atoms for atoms in frames if atoms.info["split"] == "train"]
    if not valid:
        runs = sorted({str(atoms.info["run"]) for atoms in train})
        if len(runs) < 2:
            raise FitFailed(
                "All force labels are of one trajectory; a second one must choose the best epoch (info key `run`)."
            )
        chosen = set(np.random.default_rng(5).permutation(runs)[: max(1, len(runs) // 10)].tolist())
        valid = [atoms for atoms in train if str(atoms.info["run"]) in chosen]
        train = [atoms for atoms in train if str(atoms.info["run"]) not in chosen]
    return train, valid


def fit(
    train: Sequence[Atoms],
    valid: Sequence[Atoms],
    folder: Path,
    settings: ForceFit,
    *,
    seed: int,
    deadline: float,
    device: str,
    foundation: torch.nn.Module | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    """Fit, or go on with a fit, until it is finished or the deadline (time.monotonic()) has come.

    Args:
        train, valid: frames with REF_energy, REF_forces and, where all have it, REF_stress; config_weight weighs a frame.
        folder: of this fit alone; it holds the checkpoints of mace_run_train, which keeps that of its best epoch.
        foundation: model to fine-tune; its architecture replaces that of the settings.

    Returns:
        The file of the finished model (pickled by mace_run_train, on this machine).

    Raises:
        Unfinished: stopped at the deadline.
        FitFailed: mace_run_train failed (the sentence ends with its last words), or `settings.material_weights` names what has no frames.
    """  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / f"{NAME}.model"
    if (folder / "finished").exists():
        return model
    stress = all("REF_stress" in atoms.info for atoms in [*train, *valid])
    weights = settings.material_weights
    materials = {str(atoms.info["material"]) for atoms in train}
    if absent := sorted(set(weights) - materials):
        raise FitFailed(
            f"training.force.material_weights names {', '.join(absent)}: no training frame is of that material. "
            f"Those there are: {', '.join(sorted(materials))}."
        )
    for name, frames, factors in (("train", train, weights), ("valid", valid, {})):
        ase.io.write(folder / f"{name}.extxyz", [_plain(atoms, stress, factors) for atoms in frames])
    options = _options(settings, seed, device, stress)
    options["batch_size"] = min(settings.batch_size, len(train))  # mace_run_train drops a batch that is not full
    if foundation is not None:
        torch.save(foundation, folder / "foundation.model")
        options |= {"foundation_model": "foundation.model", "multiheads_finetuning": False}
    options |= settings.options
    _set_damaged_checkpoints_aside(folder / "checkpoints")
    flags = [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]
    program = "from mace.cli.run_train import main; main()"
    environment = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    with open(folder / "output.log", "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, *flags], cwd=folder, stdout=log, stderr=subprocess.STDOUT,
            env=environment,
        )  # fmt: skip
        previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            reported = -1
            while process.poll() is None:
                time.sleep(0.5)
                if time.monotonic() > deadline:
                    process.terminate()
                    process.wait()
                    raise Unfinished(f"{epochs_done(folder)} of {settings.epochs} epochs")
                if epochs_done(folder) > reported:
                    reported = epochs_done(folder)
                    report(f"best epoch so far: {reported} of {settings.epochs}")
        finally:
            if process.poll() is None:
                process.kill()
            signal.signal(signal.SIGTERM, previous)
    if process.returncode or not model.exists():
        last = (folder / "output.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise FitFailed(
            f"mace_run_train ended with {process.returncode}: {' '.join(last)} (see {folder / 'output.log'})"
        )
    (folder / "finished").touch()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return model


def epochs_done(folder: Path) -> int:
    """Epoch of the latest checkpoint, 0 without one."""
    found = [re.search(r"_epoch-(\d+)", path.name) for path in (folder / "checkpoints").glob("*.pt")]
    return max((int(match.group(1)) for match in found if match), default=0)


def _options(settings: ForceFit, seed: int, device: str, stress: bool) -> dict:
    n = settings.channels
    return {
        "name": NAME, "seed": seed, "device": device, "default_dtype": settings.dtype, "model": "ScaleShiftMACE",
        "train_file": "train.extxyz", "valid_file": "valid.extxyz", "E0s": "average", "energy_key": "REF_energy",
        "forces_key": "REF_forces", "stress_key": "REF_stress", "compute_stress": stress,
        "loss": "stress" if stress else "weighted", "energy_weight": settings.energy_weight,
        "forces_weight": settings.forces_weight, "stress_weight": settings.stress_weight,
        "num_interactions": settings.layers, "num_channels": n, "max_L": settings.max_L,
        "correlation": settings.correlation, "max_ell": settings.max_ell, "r_max": settings.r_max,
        "num_radial_basis": 8, "radial_MLP": "[32,32,32]", "MLP_irreps": "16x0e", "scaling": "rms_forces_scaling",
        "batch_size": settings.batch_size, "valid_batch_size": 2 * settings.batch_size, "lr": settings.learning_rate,
        "scheduler": "ExponentialLR", "lr_scheduler_gamma": settings.lr_factor, "weight_decay": 1e-6, "ema": None,
        "ema_decay": 0.99, "max_num_epochs": settings.epochs, "eval_interval": 1, "patience": 100_000,
        "error_table": "PerAtomRMSEstressvirials" if stress else "PerAtomRMSE", "num_workers": 0, "plot": False,
        "restart_latest": None, "save_cpu": None,
    }  # fmt: skip


def _plain(atoms: Atoms, stress: bool, weights: dict[str, float]) -> Atoms:
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    factor = weights.get(str(atoms.info["material"]), 1.0)
    frame.info = {"REF_energy": atoms.info["REF_energy"], "config_weight": factor * atoms.info.get("config_weight", 1.0)}
    if stress:
        frame.info["REF_stress"] = np.asarray(atoms.info["REF_stress"])
    frame.arrays["REF_forces"] = atoms.arrays["REF_forces"]
    return frame


def _set_damaged_checkpoints_aside(folder: Path) -> None:
    # mace_run_train writes them in place: a kill in that moment leaves a file that cannot be read.
    for path in folder.glob("*.pt"):
        try:
            torch.load(path, map_location="cpu", weights_only=False)
        except Exception:  # damage shows as any of many errors
            path.replace(path.with_suffix(".damaged"))
