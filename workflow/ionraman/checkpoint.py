"""Checkpoints of a batch: everything that the next step depends on, in one file that is replaced whole.

The file holds tensors and JSON text only and is read without unpickling objects. The checkpoint before it and the one at the
start of production are kept beside it, for the case that it or a segment is damaged.
"""

from __future__ import annotations

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

    stage and step within it; alive: members still in the batch; cells: (members, 3, 3) of the NPT frames, A;
    starts: fractional coordinates of the frames of NPT that the replicas start from; lines: velocities of the first part of production,
    A/ps; records: one per member.
    """

    stage: str = "npt"
    step: int = 0
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


def load(path: Path, digests: list[str], device: torch.device) -> tuple[Progress, MDState] | None:
    """Read a checkpoint of the same physics; None if there is none, it is of another, or damaged.

    A damaged file is kept under the suffix .damaged.
    """
    if not path.exists():
        return None
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damage shows as any of many errors, and all mean the same: there is no checkpoint
        print(f"{path} cannot be read ({error}): it is damaged and now {path.stem}.damaged.", flush=True)
        path.replace(path.with_suffix(".damaged"))
        return None
    if stored["digests"] != digests:
        return None
    progress = Progress(**json.loads(stored["progress"]))
    for key in _ARRAYS:
        setattr(progress, key, list(stored["arrays"][key].cpu().numpy()))
    state = _STATES[stored["state_class"]](**stored["state"])
    generator = torch.Generator(device=device)
    generator.set_state(stored["generator"].cpu())
    state.rng = generator
    return progress, state
