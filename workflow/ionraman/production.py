"""What a finished production run says of itself: length, drift of the energy, and whether the host has molten."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ionraman.host import centre_displacement, host_centres
from ionraman.protocol import Member, Protocol
from ionraman.trajectory import trajectory_store

MEAN_PS = 1.0
"""Positions are averaged over so long before the host is asked whether it moved."""


def record_file(member: Member) -> Path:
    """Where the record of a finished member lies, with the digest of what made it."""
    return member.folder / "trajectory" / "progress.json"


def production_record(member: Member, protocol: Protocol, cell_A: list) -> dict:
    """Record of a member whose trajectory is complete on disk.

    Args:
        member, protocol: of the run.
        cell_A: (3, 3) cell of the production, A.

    Returns:
        status (complete or melted), reason, frames, steps (over all replicas), production_ps, drift_meV_atom (of the total
        energy over the run, largest of the replicas), mean_temperature_K, temperature_replicas_K (mean of each), host_displacement_A
        (None where the host has fewer than two centres).
    """
    store = trajectory_store(member.folder)
    arrays, _ = store.read("energy_eV", "temperature_K")
    energy = arrays["energy_eV"] / len(member.atoms)
    frames = energy.shape[1]
    slopes = np.polyfit(np.arange(frames), energy.T, 1)[0] if frames > 1 else np.zeros(len(energy))
    first, last = store.ends("positions_A", round(MEAN_PS * 1000 / protocol.sampling_fs))
    start = member.atoms.copy()
    start.set_cell(cell_A, scale_atoms=True)
    centres = host_centres(start, member.mobile)
    moved = centre_displacement(first.mean(axis=1), last.mean(axis=1), centres) if centres else None
    molten = centres is not None and moved > centres.limit_A
    reason = molten and (
        f"The host's centres moved by {moved:.1f} A (rms of means over 1 ps), more than {centres.limit_A:.1f} A: the "
        "host has molten at this temperature."
    )
    return {
        "status": "melted" if molten else "complete",
        "reason": reason or "",
        "frames": frames,
        "steps": frames * protocol.stride * protocol.replicas,
        "production_ps": frames * protocol.sampling_fs / 1000,
        "drift_meV_atom": float(np.abs(slopes).max() * frames * 1000),
        "mean_temperature_K": float(arrays["temperature_K"].mean()),
        "temperature_replicas_K": arrays["temperature_K"].mean(axis=1).tolist(),
        "host_displacement_A": moved,
    }
