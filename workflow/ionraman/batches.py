"""How the members of a pack are run: what is finished already, and which batch each of the others belongs to.

The members of a checkpoint go on together. A member that no checkpoint holds (new in the pack, or of a repaired
structure) starts anew in a batch of its own, so that it costs the others nothing. The first batch keeps its checkpoints in the
folder of the pack, others in batch_2, batch_3 and so on below it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ionraman import checkpoint
from ionraman.attempts import gpu_is_full
from ionraman.cleaning import is_cleaned
from ionraman.packs import batch_folders, copy_checkpoints, further_batch, next_batch
from ionraman.production import record_file
from ionraman.protocol import Member, Protocol, digest
from ionraman.trajectory import CorruptSegment, read_json, trajectory_store

CLEANED = {
    "status": "failed",
    "reason": "Its settings ask for another or a longer trajectory, but the trajectory was removed by scripts/campaign clean: set "
    "them back, or compute it anew with scripts/campaign rerun --from-scratch.",
}


@dataclass(frozen=True)
class Batch:
    """Members that are integrated together, and the folder of their checkpoints."""

    members: list[Member]
    folder: Path


def assign(
    members: list[Member], protocol: Protocol, force_model_sha256: str, folder: Path
) -> tuple[dict[str, dict], list[Batch]]:
    """Records of the members that are finished (or failed, see `CLEANED`), by key, and the batches of the others.

    Args:
        members: of the pack; they share the protocol.
        folder: of the pack. A checkpoint whose members all have another physics today is removed. Of a checkpoint that some members leave behind alive (they are no longer
            selected, or of another length), a copy is kept, with which they can come back.
    """
    digests = {member.key: digest(member, protocol, force_model_sha256) for member in members}
    finished = {m.key: record for m in members if (record := _finished(m, digests[m.key], protocol))}
    # What was removed by hand is not computed again unasked: the tables and spectra that remain would be lost.
    finished |= {m.key: dict(CLEANED) for m in members if m.key not in finished and is_cleaned(m.folder)}
    waiting = [member for member in members if member.key not in finished]
    batches: list[Batch] = []
    for batch in batch_folders(folder):
        found = _members(batch)
        if found is None:
            continue
        known, progress = found
        places = {}
        for member in waiting:
            at = checkpoint.place(known, member.key, digests[member.key])
            if at is not None and at not in places:
                places[at] = member
        left = [at for at in progress.alive if at not in places and not _outdated(known[at], digests)]
        if places:
            if left:
                copy_checkpoints(batch, next_batch(folder))
            batches.append(Batch([places[at] for at in sorted(places)], batch))
            waiting = [member for member in waiting if member not in batches[-1].members]
        elif not left:
            for path in batch.glob("checkpoint*.pt"):
                path.unlink()
    if waiting:
        new = next_batch(folder)
        new.mkdir(parents=True, exist_ok=True)  # `divide` goes by the folders that are there
        batches.append(Batch(waiting, new))
    return finished, batches


def carry_through(
    batches: list[Batch], folder: Path, integrate: Callable[[Batch], list[dict]]
) -> dict[str, dict]:
    """Records of all members by key. A batch that the device's memory does not hold goes on as two, down to single members.

    Args:
        batches: see `assign`; folder: of the pack.
        integrate: carries one batch to its end; a record for each member.

    Raises:
        RuntimeError: one member alone is too large (`attempts.gpu_is_full`), or anything else that went wrong.
    """
    records, waiting = {}, list(batches)
    while waiting:
        batch = waiting.pop(0)
        try:
            records |= zip((member.key for member in batch.members), integrate(batch), strict=True)
            continue
        except RuntimeError as error:
            if len(batch.members) == 1 or not gpu_is_full(error):
                raise
            print(f"{len(batch.members)} members do not fit into memory together and go on as two batches: {error}", flush=True)
        # Here, where the error no longer holds what was in memory.
        gc.collect()
        torch.cuda.empty_cache()
        middle = len(batch.members) // 2
        numbers = list(range(len(batch.members)))
        waiting[:0] = divide(batch, [numbers[:middle], numbers[middle:]], folder)
    return records


def divide(batch: Batch, groups: list[list[int]], folder: Path) -> list[Batch]:
    """A batch of each group of its members; all go on from the checkpoint of the whole, of which each takes its own.

    Args:
        groups: numbers of the members; folder: of the pack.
    """
    parts = [Batch([batch.members[k] for k in groups[0]], batch.folder)]
    for group in groups[1:]:
        other = further_batch(folder)
        other.mkdir(parents=True, exist_ok=True)
        copy_checkpoints(batch.folder, other)
        parts.append(Batch([batch.members[k] for k in group], other))
    return parts


def _members(batch: Path) -> tuple[list[tuple[str, str]], checkpoint.Progress] | None:
    """What the latest readable checkpoint of a batch holds: checkpoint.pt before older ones with longer names."""
    for path in sorted(batch.glob("checkpoint*.pt"), key=lambda path: len(path.name)):
        if found := checkpoint.members(path):
            return found
    return None


def _finished(member: Member, wanted: str, protocol: Protocol) -> dict | None:
    """The record of a member whose run is through: long enough, of this physics, its segments there or cleaned away."""
    file = record_file(member)
    if not file.exists():
        return None
    record = read_json(file)
    if record.pop("digest", None) != wanted:
        return None
    if record["status"] in ("unstable", "invalid"):
        return record
    if record["frames"] < protocol.steps(protocol.production_ps) // protocol.stride:
        return None
    return record if is_cleaned(member.folder) or _frames(member) >= record["frames"] else None


def _frames(member: Member) -> int:
    """Frames of a trajectory up to the first damaged segment."""
    frames = 0
    try:
        for first, arrays, _ in trajectory_store(member.folder).segments():
            frames = first + arrays["energy_eV"].shape[1]
    except CorruptSegment:
        pass
    return frames


def _outdated(stored: tuple[str, str], digests: dict[str, str]) -> bool:
    """Whether a member of a checkpoint is one of today's under another physics: its state is of no use."""
    name, physics = stored
    return name in digests and digests[name] != physics
