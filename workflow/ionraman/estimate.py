"""What a campaign costs before it is run: hours of its jobs and bytes on disk, from measured speeds.

A speed is a measured time of one step (stage npt: with stress, nve: without) or of one evaluation of the polarizability
(stage alpha) of a batch of so many atoms on one device with one model. Between measured sizes times are interpolated;
beyond the largest they grow with the atoms, below the smallest they stay.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ionraman.protocol import Protocol
from ionraman.trajectory import read_json

STARTUP_S = 20.0
"""Importing and loading models, of every job."""

TABLES_BYTES = 300_000
"""Tables and records of a run: msd.csv, spectrum.csv, JSON."""

STAGES = ("npt", "nve", "alpha")


@dataclass(frozen=True)
class Speeds:
    """Measured (atoms, seconds) by stage on `device`, and where they come from."""

    device: str
    source: str
    rows: dict[str, list[tuple[int, float]]]

    def seconds(self, stage: str, atoms: float) -> float:
        """Time of one step or evaluation of a batch of `atoms`, s."""
        sizes, times = zip(*sorted(self.rows[stage]), strict=True)
        if atoms > sizes[-1]:
            return times[-1] * atoms / sizes[-1]
        return float(np.interp(atoms, sizes, times))


@dataclass(frozen=True)
class Load:
    """What one run asks of its pack: atoms in its cell, elements in it, and its protocol."""

    atoms: int
    species: int
    protocol: Protocol


def pack_hours(loads: list[Load], speeds: Speeds) -> float:
    """Hours of the two jobs (dynamics, polarizability) of a pack whose members run as one batch.

    The relaxation is counted with all its allowed steps, the equilibration with npt_ps; one that does not settle goes on
    to npt_limit_ps.
    """
    protocol = loads[0].protocol
    atoms = sum(load.atoms for load in loads)
    steps = protocol.relax_steps + protocol.steps(protocol.npt_ps)
    seconds = 2 * STARTUP_S + steps * speeds.seconds("npt", atoms)
    steps = protocol.steps(protocol.nvt_ps) + protocol.steps(protocol.production_ps)
    seconds += steps * speeds.seconds("nve", atoms * protocol.replicas)
    if "alpha" in speeds.rows:
        batch = max(size for size, _ in speeds.rows["alpha"])
        frames = protocol.replicas * protocol.steps(protocol.production_ps) // protocol.stride
        seconds += frames * atoms / batch * speeds.seconds("alpha", batch)
    return seconds / 3600


def run_bytes(load: Load, alpha_members: int) -> int:
    """Disk of a finished run: positions (float32), energies and temperatures, polarizabilities, tables."""
    frames = load.protocol.replicas * load.protocol.steps(load.protocol.production_ps) // load.protocol.stride
    return frames * (12 * load.atoms + 16 + 36 * alpha_members * load.species) + TABLES_BYTES


def architecture(model: Path) -> str:
    """What the speed of a model depends on, in words: its class and sizes, not its weights; of a file its name."""
    file = model / "model.json"
    if not file.exists():
        return model.name
    record = read_json(file)
    sizes = record["arguments"]
    return (
        f"{record['class']} {str(sizes['hidden_irreps']).replace(' ', '')} r_max {sizes['r_max']:g} l {sizes['max_ell']} "
        f"correlation {sizes['correlation']} layers {sizes.get('num_interactions')}"
    )


def read_speeds(table: Path, device: str, force_model: str) -> Speeds | None:
    """Speeds of a device ('cpu' or 'cuda') and force field (its `architecture`) in the table; None if they were not measured."""
    rows: dict[str, list[tuple[int, float]]] = {}
    names = set()
    with open(table, encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        for row in csv.DictReader(lines, delimiter="\t"):
            if row["device"] == device and row["force_model"] == force_model:
                rows.setdefault(row["stage"], []).append((int(row["atoms"]), float(row["seconds"])))
                names.add(row["hardware"])
    complete = {"npt", "nve"} <= set(rows)
    return Speeds(device, f"{table.name} ({', '.join(sorted(names))})", rows) if complete else None


def read_probe(file: Path, force_model: str) -> Speeds | None:
    """Speeds that a probe measured; None if there is none, or of a force field of another `architecture`."""
    if not file.exists():
        return None
    probe = read_json(file)
    if probe["force_model"] != force_model:
        return None
    rows = {stage: [tuple(pair) for pair in pairs] for stage, pairs in probe["speeds"].items()}
    return Speeds(probe["device"], f"probe of {probe['when']} on {probe['hardware']}", rows)
