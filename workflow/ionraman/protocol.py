"""What a run is: its settings, its members, and the fingerprint of what decides its physics."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

PHYSICS_VERSION = 2
"""Raised when a change of the dynamics alters trajectories: runs made before it start anew."""


@dataclass(frozen=True)
class Protocol:
    """Settings of a run; times in ps unless the name says fs."""

    timestep_fs: float = 2.0
    sampling_fs: float = 10.0
    relax_steps: int = 300
    relax_fmax_eV_A: float = 0.02
    npt_ps: float = 10.0
    npt_limit_ps: float = 10.0
    nvt_ps: float = 2.0
    production_ps: float = 100.0
    replicas: int = 5
    thermostat_tau_ps: float = 0.2
    barostat_tau_ps: float = 1.0
    checkpoint_ps: float = 2.0
    seed: int = 1

    @property
    def stride(self) -> int:
        """Steps between stored frames."""
        stride = round(self.sampling_fs / self.timestep_fs)
        if stride < 1 or abs(stride * self.timestep_fs - self.sampling_fs) > 1e-6:
            raise ValueError(
                f"sampling_fs {self.sampling_fs:g} is not a multiple of timestep_fs {self.timestep_fs:g}."
            )
        return stride

    def steps(self, picoseconds: float) -> int:
        """Steps in a time, a whole number of frames."""
        return round(picoseconds * 1000 / self.sampling_fs) * self.stride


@dataclass(frozen=True)
class Member:
    """One structure at one temperature; its trajectory goes below `folder`.

    rotations: (n, 3, 3) Cartesian point group of the crystal without its carriers, which the mean cell keeps.
    """

    name: str
    temperature_K: float
    atoms: Atoms
    mobile: str
    folder: Path
    rotations: np.ndarray = field(default_factory=lambda: np.eye(3)[None])

    @property
    def key(self) -> str:
        """'name:temperature', by which a pack knows it."""
        return f"{self.name}:{self.temperature_K:g}"


def digest(member: Member, protocol: Protocol, force_model_sha256: str) -> str:
    """Fingerprint of what decides the physics of a member: not the length, the batch, the device or versions."""
    decisive = asdict(protocol)
    for key in ("production_ps", "checkpoint_ps"):
        del decisive[key]
    decisive |= {
        "physics_version": PHYSICS_VERSION,
        "temperature_K": float(member.temperature_K),
        "numbers": member.atoms.numbers.tolist(),
        "positions": np.round(member.atoms.positions, 6).tolist(),
        "cell": np.round(member.atoms.cell.array, 6).tolist(),
        "rotations": np.round(member.rotations, 6).tolist(),
        "force_model": force_model_sha256,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
