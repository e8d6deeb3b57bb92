"""Segments: whole or absent, in order, replaced where a run went on from an earlier checkpoint."""

import json

import numpy as np
import pytest
from ionraman.trajectory import CorruptSegment, SegmentStore, write_json


def frames(first, count):
    return {"x": np.arange(first, first + count, dtype=float)[None]}


@pytest.fixture
def store(tmp_path):
    store = SegmentStore(tmp_path / "run", "x", frame_axis=1)
    store.append(0, frames(0, 4), {"digest": "a"})
    store.append(4, frames(4, 3), {"digest": "a"})
    return store


def test_read_joins_the_segments(store):
    arrays, metadata = store.read()
    assert arrays["x"].tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert metadata == {"digest": "a"}
    assert store.frames() == 7


def test_read_cuts_to_the_frames_asked_for(store):
    assert store.read(frames=5)[0]["x"].tolist() == [[0, 1, 2, 3, 4]]


def test_ends_reach_over_segments(store):
    first, last = store.ends("x", 5)
    assert first.tolist() == [[0, 1, 2, 3, 4]] and last.tolist() == [[2, 3, 4, 5, 6]]
    first, last = store.ends("x", 2)
    assert first.tolist() == [[0, 1]] and last.tolist() == [[5, 6]]


def test_a_segment_written_again_replaces_what_follows(store):
    store.append(7, frames(7, 2), {})
    store.append(4, frames(40, 1), {})
    assert store.read()[0]["x"].tolist() == [[0, 1, 2, 3, 40]]


def test_a_half_written_segment_is_not_seen(store):
    (store.folder / ".x_000000007.npz.tmp").write_bytes(b"half")
    assert store.frames() == 7


def test_a_truncated_segment_is_named(store):
    path = store.paths()[1]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptSegment, match=path.name):
        store.read()


def test_a_missing_segment_is_named(store):
    store.append(7, frames(7, 2), {})
    store.paths()[1].unlink()
    with pytest.raises(CorruptSegment, match="4 was expected"):
        store.read()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
