"""What a job of a pack asks of a cluster: minutes and memory, from atoms and steps.

The estimates are cautious and rough. A run that outlives its minutes is stopped by the scheduler, saves itself and goes
on in the next job, so nothing is lost where one is too small.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import ceil
from pathlib import Path

from ionraman.attempts import out_of_memory_count

ATOM_STEPS_PER_S = {"cpu": 500.0, "cuda": 30_000.0}
"""Cautious speed of the dynamics by device: a CPU core with a small cell, a data-centre GPU with a full pack."""

STEP_S = {"cpu": 0.0, "cuda": 0.025}
"""Time that a step takes at least: starting the kernels (H200 with one small cell: 0.019 s, workflow/data/speed.tsv)."""

ALPHA_COST = 10.0
"""Cost of the polarizability of one atom in one frame, in atom-steps of the dynamics."""

STARTUP_MIN = 10
"""Importing, loading models, relaxing, and the scheduler's coarse clock."""

MARGIN = 1.5
BASE_MB, ATOM_MB = 3000, 2.0
"""Host memory of a job (two Snakemake processes, PyTorch and CUDA's context), and of each atom in its batch."""


def dynamics_s(atoms: int, steps: dict[str, int], replicas: int, speed: float, step_s: float = 0.0) -> float:
    """Seconds for the dynamics of a pack; see `dynamics_minutes`."""
    late = steps["nvt"] + steps["production"]
    return steps["npt"] * max(atoms / speed, step_s) + late * max(atoms * replicas / speed, step_s)


def dynamics_minutes(
    atoms: int,
    steps: dict[str, int],
    replicas: int,
    speed: float,
    limit: int,
    left_s: float | None = None,
    step_s: float = 0.0,
) -> int:
    """Minutes for the dynamics of a pack, at most `limit`.

    Args:
        atoms: of all members, without replicas.
        steps: of the stages npt (one replica), nvt and production (all replicas).
        speed: atom-steps per second.
        limit: most minutes of a job.
        left_s: seconds left by the measure of an earlier attempt, which then decides alone.
        step_s: seconds that a step takes at least.
    """
    return _minutes(dynamics_s(atoms, steps, replicas, speed, step_s) if left_s is None else left_s, limit)


def polarizability_minutes(atoms: int, frames: float, replicas: int, speed: float, limit: int) -> int:
    """Minutes for the polarizability of `frames` frames of a pack, at most `limit`; see `dynamics_minutes`."""
    return _minutes(atoms * frames * replicas * ALPHA_COST / speed, limit)


def memory_mb(atoms: int, replicas: int, pack_folder: Path, stage: str) -> int:
    """Host memory, MB: doubled for each attempt that is recorded as out of memory, never otherwise.

    Args:
        atoms: of all members, without replicas.
        pack_folder: where the pack's attempts.json lies.
        stage: 'dynamics' or 'polarizability'.
    """
    return ceil(BASE_MB + ATOM_MB * atoms * replicas) * 2 ** out_of_memory_count(pack_folder, stage)


def speed_of(compute) -> tuple[float, float]:
    """Atom-steps per second that the settings `compute` state, or a cautious value for their device; least time of a step, s."""
    device = "cuda" if compute.device == "cuda" else "cpu"
    return compute.atom_steps_per_s or ATOM_STEPS_PER_S[device], STEP_S[device]


def stage_steps(setting: Callable[[str], float]) -> dict[str, int]:
    """Most steps of the stages of a run's dynamics; setting: value of a dotted key."""
    lengths = {"npt": "npt_limit_ps", "nvt": "nvt_ps", "production": "production_ps"}
    return {
        stage: round(setting(f"dynamics.{key}") * 1000 / setting("dynamics.timestep_fs"))
        for stage, key in lengths.items()
    }


def atoms_of(structure: Path) -> int | None:
    """Atoms of a cell by its structure.json: 0 for one that could not be built, None for one that is not built yet."""
    try:
        record = json.loads(structure.read_text())
    except (OSError, ValueError):
        return None
    return len(record["atoms"]["numbers"]) if "atoms" in record else 0


def left_s(pack_folder: Path) -> float | None:
    """Seconds that the dynamics of a pack had left by its own measure; None where there is none."""
    try:
        return json.loads((pack_folder / "progress.json").read_text())["left_s"]
    except (OSError, ValueError, KeyError):
        return None


def _minutes(seconds: float, limit: int) -> int:
    return min(ceil(STARTUP_MIN + MARGIN * seconds / 60), limit)
