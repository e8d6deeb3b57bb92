"""Damaged segments and checkpoints: what is set aside, and what the next run computes again."""

import errno

import numpy as np
import pytest
from ionraman.trajectory import CorruptSegment, SegmentStore, polarizability_store


@pytest.fixture
def store(tmp_path):
    store = SegmentStore(tmp_path, "production", frame_axis=1)
    for first in (0, 10, 20, 30):
        store.append(first, {"x": np.full((2, 10, 3), first, np.float32)}, {})
    return store


def test_sound_segments_are_left_alone(store):
    before = store.paths()
    store.set_aside_damaged()
    assert store.paths() == before and len(before) == 4


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "missing"])
def test_what_follows_a_damaged_segment_is_dropped(store, damage, capsys):
    path = store.paths()[2]
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: 100 if damage == "truncate" else 0])
    with pytest.raises(CorruptSegment):
        list(store.segments())
    store.set_aside_damaged()
    assert store.frames() == 20 and [store.first_frame(p) for p in store.paths()] == [0, 10]
    assert "computed again" in capsys.readouterr().out


def test_a_full_disk_leaves_no_part_of_a_segment(store, monkeypatch):
    def full(file, **arrays):
        file.write(b"x" * 100)
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(store.folder.iterdir())
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        store.append(40, {"x": np.zeros((2, 10, 3))}, {})
    assert sorted(store.folder.iterdir()) == before


@pytest.mark.parametrize(("frame", "left"), [(0, 0), (20, 2), (25, 2), (40, 4), (100, 4)])
def test_drop_from_a_frame(store, frame, left):
    store.drop_from(frame)
    assert len(store.paths()) == left
    SegmentStore(store.folder / "none", "a", 0).drop_from(0)


def test_polarizability_of_a_missing_run_is_dropped_without_complaint(tmp_path):
    polarizability_store(tmp_path).drop_from(0)
