"""Segmented arrays on disk: trajectories and polarizabilities that survive a kill at any moment.

A store is a folder of segments `NAME_<first frame, 9 digits>.npz`. A segment is written whole to a temporary name,
flushed, and renamed into place, so a reader sees complete segments only, also while a run goes on. The frames of
consecutive segments follow each other without gap or overlap; where a run stopped between writing a segment and its
checkpoint, the segment written again replaces the old one and anything beyond it is dropped.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class CorruptSegment(ValueError):
    """A segment cannot be read or does not follow the one before it; `path` is its file."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader or a crash sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, record: dict) -> None:
    """Write `record` atomically as indented JSON."""
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())


def read_json(path: Path) -> dict:
    """Read a JSON record.

    Raises:
        ValueError: the file is not JSON; the sentence names it.
    """
    try:
        return json.loads(Path(path).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and run again.") from error


class SegmentStore:
    """Frames of named arrays, appended in segments.

    Args:
        folder: where the segments lie; created on first append.
        name: prefix of the segment files.
        frame_axis: axis of the arrays that counts frames, the same for all of them.
    """

    def __init__(self, folder: Path | str, name: str, frame_axis: int) -> None:
        self.folder, self.name, self.frame_axis = Path(folder), name, frame_axis

    def paths(self) -> list[Path]:
        """Segment files in order of their first frame."""
        return sorted(self.folder.glob(f"{self.name}_?????????.npz"))

    def first_frame(self, path: Path) -> int:
        return int(path.stem.rsplit("_", 1)[1])

    def append(self, first_frame: int, arrays: dict[str, np.ndarray], metadata: dict) -> Path:
        """Write the segment that starts at `first_frame`; segments at or beyond it are dropped."""
        for path in self.paths():
            if self.first_frame(path) > first_frame:
                path.unlink()
        path = self.folder / f"{self.name}_{first_frame:09d}.npz"
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with open(temporary, "wb") as file:
                np.savez(file, metadata=np.array(json.dumps(metadata)), **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # on a full disk the part would only take room
            temporary.unlink(missing_ok=True)
            raise
        return path

    def drop_from(self, first_frame: int) -> None:
        """Delete the segments that reach beyond `first_frame`."""
        end = None
        for path in reversed(self.paths()):
            start = self.first_frame(path)
            if start >= first_frame or (end is not None and end > first_frame):
                path.unlink()
            end = start

    def set_aside_damaged(self) -> None:
        """Rename the first damaged segment, delete what follows it, and print a sentence; nothing where all are sound.

        Every segment is read whole, which checks the sums that the file holds.
        """
        try:
            for _ in self.segments():
                pass
        except CorruptSegment as error:
            for path in self.paths():
                if path > error.path:
                    path.unlink()
            damaged = error.path.with_name(error.path.name + ".damaged")
            error.path.replace(damaged)
            print(f"{error} It is now {damaged.name}; its frames and those after it are computed again.", flush=True)

    def segments(self) -> Iterator[tuple[int, dict[str, np.ndarray], dict]]:
        """Yield (first frame, arrays, metadata) in order.

        Raises:
            CorruptSegment: a file is truncated, or frames are missing between two of them.
        """
        expected = 0
        for path in self.paths():
            first = self.first_frame(path)
            if first != expected:
                raise CorruptSegment(
                    path, f"{path} starts at frame {first}, but {expected} was expected: a segment is missing."
                )
            try:
                with np.load(path) as stored:
                    arrays = {key: stored[key] for key in stored.files if key != "metadata"}
                    metadata = json.loads(str(stored["metadata"]))
            except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
                raise CorruptSegment(path, f"{path} cannot be read ({error}): it is damaged.") from error
            expected = first + next(iter(arrays.values())).shape[self.frame_axis]
            yield first, arrays, metadata

    def frames(self) -> int:
        """Frames stored, from the headers only."""
        paths = self.paths()
        if not paths:
            return 0
        with np.load(paths[-1]) as stored:
            key = next(key for key in stored.files if key != "metadata")
            return self.first_frame(paths[-1]) + stored[key].shape[self.frame_axis]

    def ends(self, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last `count` frames of one array; only the segments that hold them are read."""
        found = []
        for paths, keep in ((self.paths(), slice(None, count)), (self.paths()[::-1], slice(-count, None))):
            parts: list[np.ndarray] = []
            for path in paths:
                with np.load(path) as stored:
                    parts.append(stored[name])
                if sum(part.shape[self.frame_axis] for part in parts) >= count:
                    break
            joined = np.concatenate(parts if keep.start is None else parts[::-1], axis=self.frame_axis)
            found.append(np.moveaxis(np.moveaxis(joined, self.frame_axis, 0)[keep], 0, self.frame_axis))
        return found[0], found[1]

    def read(self, *names: str, frames: int | None = None) -> tuple[dict[str, np.ndarray], dict]:
        """Arrays joined along the frame axis, cut to the first `frames`, and the first segment's metadata.

        Raises:
            FileNotFoundError: there is no segment.
            CorruptSegment: see `segments`.
        """
        parts: dict[str, list[np.ndarray]] = {}
        first_metadata: dict | None = None
        for first, arrays, metadata in self.segments():
            first_metadata = first_metadata or metadata
            if frames is not None and first >= frames:
                break
            for key in names or arrays:
                parts.setdefault(key, []).append(arrays[key])
        if first_metadata is None:
            raise FileNotFoundError(f"{self.folder} holds no segment of '{self.name}'.")
        joined = {}
        for key, pieces in parts.items():
            array = np.concatenate(pieces, axis=self.frame_axis)
            joined[key] = np.take(array, np.arange(frames), self.frame_axis) if frames else array
        return joined, first_metadata


def trajectory_store(run_folder: Path | str) -> SegmentStore:
    """Production trajectory of a run.

    Arrays: positions_A (replicas, frames, atoms, 3) float32, unwrapped; energy_eV and temperature_K
    (replicas, frames) float64. Metadata: species, masses_u, cell_A, timestep_fs, sampling_fs, digest, seed.
    """
    return SegmentStore(Path(run_folder) / "trajectory", "production", frame_axis=1)


def polarizability_store(run_folder: Path | str) -> SegmentStore:
    """Polarizability along the production trajectory of a run.

    Array: alpha_A3 (replicas, frames, models, species, 3, 3) float32; its sum over species is the total.
    Metadata: species (symbols, in the order of that axis), sampling_fs, volume_A3, digests.
    """
    return SegmentStore(Path(run_folder) / "polarizability", "alpha", frame_axis=1)
