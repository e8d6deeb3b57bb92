"""Polarizability of every stored frame of a run, segment by segment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers

from ionraman.attempts import gpu_is_full
from ionraman.polarizability import PolarizabilityModel
from ionraman.trajectory import polarizability_store, trajectory_store, write_json

BATCH_ATOMS = {"cpu": 512, "cuda": 16384}
"""Atoms evaluated at once by default; halved where the memory does not hold them (scripts/benchmark compares sizes)."""


def evaluate_run(
    model: PolarizabilityModel,
    folder: Path,
    dynamics: dict,
    batch_atoms: int | None = None,
    on_saved: Callable[[int], None] = lambda frames: None,
) -> dict:
    """Evaluate the frames of a finished trajectory that have no polarizability yet.

    Args:
        model: the ensemble.
        folder: of the run; segments are written to `polarizability` below it.
        dynamics: the run's record (frames, sampling_fs, volume_A3).
        batch_atoms: most atoms evaluated at once; None: `BATCH_ATOMS`.
        on_saved: told the frames of each segment that was written.

    Returns:
        status (complete, or unsupported where the model does not cover an element), reason, frames, models, seconds.
    """
    positions, alpha = trajectory_store(folder), polarizability_store(folder)
    started, computed = time.monotonic(), 0
    alpha.set_aside_damaged()
    stored = {first: metadata for first, _, metadata in alpha.segments()} if alpha.paths() else {}
    for first, arrays, metadata in positions.segments():
        species = metadata["species"]
        missing = sorted(set(species) - set(model.elements))
        if missing:
            covered = " ".join(model.elements)
            reason = f"The polarizability model does not cover {', '.join(missing)}; it covers {covered}."
            return {"status": "unsupported", "reason": reason}
        replicas, frames, atoms = arrays["positions_A"].shape[:3]
        made_of = {"trajectory": metadata["digest"], "model": model.sha256, "frames": frames}
        if stored.get(first, {}).get("made_of") == made_of:
            continue
        batch = batch_atoms or BATCH_ATOMS[model.device.type]
        flat = arrays["positions_A"].reshape(replicas * frames, atoms, 3)
        tensors = _within_memory(model, flat, np.array(metadata["cell_A"]), species, batch)
        tensors = tensors.reshape(replicas, frames, *tensors.shape[1:]).astype(np.float32)
        alpha.append(
            first,
            {"alpha_A3": tensors},
            {
                "species": sorted(set(species), key=atomic_numbers.get),
                "sampling_fs": metadata["sampling_fs"],
                "volume_A3": dynamics["volume_A3"],
                "made_of": made_of,
            },
        )
        stored = {}  # what followed it is gone with the old segment
        computed += frames
        on_saved(frames)
        write_json(
            folder / "polarizability" / "progress.json",
            {"frames": first + frames, "frames_total": dynamics["frames"], "updated": time.time()},
        )
    return {
        "status": "complete",
        "reason": "",
        "frames": alpha.frames(),
        "models": model.size,
        "frames_computed": computed,
        "seconds": round(time.monotonic() - started, 1),
    }


def _within_memory(
    model: PolarizabilityModel, positions_A: np.ndarray, cell_A: np.ndarray, species: list[str], batch_atoms: int
) -> np.ndarray:
    """Predict in batches that are halved until they fit into the memory of the device."""
    while True:
        try:
            return model.predict_trajectory(positions_A, cell_A, species, batch_atoms)
        except RuntimeError as error:
            if batch_atoms <= len(species) or not gpu_is_full(error):
                raise
        batch_atoms //= 2
        torch.cuda.empty_cache()
