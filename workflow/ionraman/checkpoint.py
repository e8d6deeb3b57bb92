"""Checkpoints of a batch: everything that the next step depends on, in one file that is replaced whole.

The file holds tensors and JSON text only and is read without unpickling objects. The checkpoint before it and the one at the
start of production are kept beside it, for the case that it or a segment is damaged.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch_sim.integrators.md import MDState
from torch_sim.integrators.npt import NPTCRescaleState

from ionraman.trajectory import write_atomically

_STATES = {cls.__name__: cls for cls in (MDState, NPTCRescaleState)}
_ARRAYS = ("cells", "lines", "starts")

LATEST, PREVIOUS, START = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.start.pt"


@dataclass
class Progress:
    """Where a batch stands.

    stage and step within it; names: of the members, as in their packs; alive: members still in the batch; cells: (members, 3, 3) of
    the NPT frames, A; starts: fractional coordinates of the frames of NPT that the replicas start from; lines: velocities of the first
    part of production, A/ps; records: one per member.
    """

    stage: str = "npt"
    step: int = 0
    names: list[str] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    cells: list[np.ndarray] = field(default_factory=list)
    lines: list[np.ndarray] = field(default_factory=list)
    starts: list[np.ndarray] = field(default_factory=list)
    records: list[dict] = field(default_factory=list)
    seconds: float = 0.0


def save(
    folder: Path,
    digests: list[str],
    progress: Progress,
    state: MDState,
    stage: str | None = None,
    keep: bool = True,
) -> None:
    """Write the checkpoint of a batch.

    stage: overrides the stage that a later run starts in; keep: the one before becomes the previous one.
    """
    plain = {key: value for key, value in vars(progress).items() if key not in _ARRAYS}
    buffer = io.BytesIO()
    torch.save(
        {
            "digests": digests,
            "progress": json.dumps(plain | ({"stage": stage} if stage else {})),
            "arrays": {key: torch.as_tensor(np.array(getattr(progress, key))) for key in _ARRAYS},
            "state_class": type(state).__name__,
            "state": {
                key: value for key, value in state.attributes.items() if isinstance(value, torch.Tensor)
            },
            "generator": state.rng.get_state(),
        },
        buffer,
    )
    latest = folder / LATEST
    if keep and latest.exists():
        link = folder / f".{PREVIOUS}.link"
        link.unlink(missing_ok=True)
        os.link(latest, link)
        os.replace(link, folder / PREVIOUS)
    write_atomically(latest, buffer.getvalue())
    if progress.stage == "production" and progress.step == 0:
        write_atomically(folder / START, buffer.getvalue())


def members(path: Path) -> tuple[list[tuple[str, str]], Progress] | None:
    """(name, digest) of the members in a checkpoint and where they stand; None if there is none or it is damaged.

    A damaged file is kept under the suffix .damaged.
    """
    stored = _read(path, torch.device("cpu"))
    if stored is None:
        return None
    return _known(stored), Progress(**json.loads(stored["progress"]))


def place(known: list[tuple[str, str]], name: str, digest: str) -> int | None:
    """Where a member stands in a checkpoint's list, None if it is not there (a list without names has '' for them)."""
    return next((i for i, (n, d) in enumerate(known) if d == digest and n in (name, "")), None)


def load(
    path: Path, names: list[str], digests: list[str], device: torch.device
) -> tuple[Progress, MDState] | None:
    """Read the members `names` of a checkpoint; None if one of them is not in it, of another physics, or it is damaged.

    A checkpoint may hold more members than asked for: the others are left out of what is returned. A damaged file is kept
    under the suffix .damaged.
    """
    stored = _read(path, device)
    if stored is None:
        return None
    known = _known(stored)
    if digests == stored["digests"]:
        chosen = list(range(len(known)))
    else:
        chosen = [place(known, *member) for member in zip(names, digests, strict=True)]
    if None in chosen:
        return None
    progress = Progress(**json.loads(stored["progress"]))
    for key in _ARRAYS:
        setattr(progress, key, list(stored["arrays"][key].cpu().numpy()))
    state = _STATES[stored["state_class"]](**stored["state"])
    state.rng = _generator(stored["generator"].cpu(), device)
    if len(chosen) < len(known):
        return _select(progress, state, chosen)
    return progress, state


def keep_alive(progress: Progress, state: MDState, kept: list[int]) -> MDState:
    """The state of the members at the places `kept` among those alive; `progress` follows. With none, the batch is done."""
    repeat = state.n_systems // max(len(progress.alive), 1)
    progress.alive = [progress.alive[position] for position in kept]
    if not kept:
        progress.stage = "done"
        return state
    systems = [position * repeat + replica for position in kept for replica in range(repeat)]
    progress.cells = [cells[kept] for cells in progress.cells]
    atoms = np.isin(state.system_idx.cpu().numpy(), systems)
    progress.lines = [velocities[atoms] for velocities in progress.lines]
    progress.starts = [fractional[atoms] for fractional in progress.starts]
    generator = state.rng
    state = state[systems]
    state.rng = generator
    return state


def _select(progress: Progress, state: MDState, chosen: list[int]) -> tuple[Progress, MDState]:
    """The members `chosen`, by their place in the stored list; what belongs to the others is dropped."""
    kept = [position for position, index in enumerate(progress.alive) if index in chosen]
    state = keep_alive(progress, state, kept)
    progress.records = [progress.records[index] for index in chosen]
    progress.names = [progress.names[index] for index in chosen] if progress.names else []
    progress.alive = [chosen.index(index) for index in progress.alive]
    return progress, state


def _generator(state: torch.Tensor, device: torch.device) -> torch.Generator:
    """A generator that goes on from `state`; where that is of another kind of device, one with a seed made of it."""
    generator = torch.Generator(device=device)
    if state.shape == generator.get_state().shape:
        generator.set_state(state)
    else:
        generator.manual_seed(int.from_bytes(hashlib.sha256(state.numpy().tobytes()).digest()[:4]))
    return generator


def _known(stored: dict) -> list[tuple[str, str]]:
    names = json.loads(stored["progress"]).get("names") or [""] * len(stored["digests"])
    return list(zip(names, stored["digests"], strict=True))


def _read(path: Path, device: torch.device) -> dict | None:
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damage shows as any of many errors, and all mean the same: there is no checkpoint
        print(f"{path} cannot be read ({error}): it is damaged and now {path.stem}.damaged.", flush=True)
        path.replace(path.with_suffix(".damaged"))
        return None
