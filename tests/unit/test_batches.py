"""Members of a pack that part ways: one is lengthened, left out, repaired or cleaned, and the others lose nothing."""

import shutil

import numpy as np
import pytest
import torch
from ase.build import bulk
from ionraman import memory
from ionraman.attempts import gpu_is_full
from ionraman.batches import assign, carry_through, divide
from ionraman.dynamics import Engine
from ionraman.protocol import Member, Protocol
from ionraman.trajectory import trajectory_store

SHORT = Protocol(
    relax_steps=5, npt_ps=0.04, npt_limit_ps=0.04, nvt_ps=0.2, production_ps=0.08, replicas=2, checkpoint_ps=0.05
)  # fmt: skip
LONG = Protocol(**vars(SHORT) | {"production_ps": 0.12})


def members(folder, *names, edge=5.7):
    return [
        Member(name, 600.0, bulk("NaCl", "rocksalt", edge, cubic=True), "Na", folder / name) for name in names
    ]


def run(force_model, folder, protocol, chosen):
    """What scripts/dynamics.py does with a pack; records by key and the batches that were integrated."""
    records, batches = assign(chosen, protocol, force_model.sha256, folder)
    for batch in batches:
        engine = Engine(batch.members, protocol, force_model, batch.folder, torch.device("cpu"))
        records |= dict(zip((member.key for member in batch.members), engine.run(), strict=True))
    return records, [
        ([member.name for member in batch.members], batch.folder.name, engine.resumed_step)
        for batch in batches
    ]


@pytest.fixture(scope="module")
def pair(force_model, tmp_path_factory):
    """Two members alike but for their names, finished in one pack."""
    folder = tmp_path_factory.mktemp("pair")
    records, batches = run(force_model, folder, SHORT, members(folder, "a", "b"))
    assert batches == [(["a", "b"], folder.name, 0)]
    assert {record["status"] for record in records.values()} == {"complete"}
    return folder


@pytest.fixture
def pack(pair, tmp_path):
    shutil.copytree(pair, tmp_path / "pack")
    return tmp_path / "pack"


def times(folder, name):
    return {path.name: path.stat().st_mtime_ns for path in trajectory_store(folder / name).paths()}


def test_a_finished_pack_has_nothing_to_integrate(force_model, pack):
    (pack / "checkpoint.pt").unlink()  # not even that is needed
    records, batches = assign(members(pack, "a", "b"), SHORT, force_model.sha256, pack)
    assert not batches and records["a:600"]["frames"] == 8


def test_one_is_lengthened_and_the_other_can_follow(force_model, pack):
    before = times(pack, "a"), times(pack, "b")
    done = SHORT.steps(0.04) + SHORT.steps(0.2) + SHORT.steps(0.08)
    records, batches = run(force_model, pack, LONG, members(pack, "b"))
    assert batches == [(["b"], "pack", done)] and records["b:600"]["frames"] == 12
    # b went on from its own state, not from that of its twin
    old, new = (trajectory_store(pack / "b").read()[0]["positions_A"][:, at] for at in (7, 8))
    assert np.abs(new - old).max() < 0.3
    _, batches = run(force_model, pack, LONG, members(pack, "a", "b"))
    assert batches == [(["a"], "batch_2", done)]
    for name, segments in zip("ab", before, strict=True):
        assert trajectory_store(pack / name).frames() == 12
        assert {key: times(pack, name)[key] for key in segments} == segments


def test_a_repaired_member_starts_in_a_batch_of_its_own(force_model, pack):
    before = times(pack, "a")
    chosen = members(pack, "a") + members(pack, "b", edge=5.75)
    records, batches = assign(chosen, LONG, force_model.sha256, pack)
    assert [[m.name for m in batch.members] for batch in batches] == [["a"], ["b"]]
    assert [batch.folder.name for batch in batches] == ["pack", "batch_2"]
    assert not records and times(pack, "a") == before


def test_damaged_segments_cost_their_member_alone(force_model, pack):
    last = trajectory_store(pack / "b").paths()[-1]
    last.write_bytes(last.read_bytes()[:100])
    records, batches = assign(members(pack, "a", "b"), SHORT, force_model.sha256, pack)
    assert list(records) == ["a:600"] and [[m.name for m in batch.members] for batch in batches] == [["b"]]


def test_a_checkpoint_of_another_physics_makes_room(force_model, pack):
    _, batches = assign(members(pack, "a", "b", edge=5.8), SHORT, force_model.sha256, pack)
    assert [([m.name for m in b.members], b.folder.name) for b in batches] == [(["a", "b"], "pack")]
    assert not (pack / "checkpoint.pt").exists()


def test_a_cleaned_member_is_finished_but_not_longer(force_model, pack):
    for path in trajectory_store(pack / "a").paths():
        path.unlink()
    (pack / "a/cleaned.json").write_text("{}")
    assert assign(members(pack, "a"), SHORT, force_model.sha256, pack)[0]["a:600"]["status"] == "complete"
    records, batches = assign(members(pack, "a", "b"), LONG, force_model.sha256, pack)
    assert records["a:600"]["status"] == "failed" and "--from-scratch" in records["a:600"]["reason"]
    assert [[m.name for m in batch.members] for batch in batches] == [["b"]]


def integrate_on_a_small_gpu(force_model, fits: int, begin: int, tried: list):
    """An engine whose memory holds `fits` members at most, and which notices that at step `begin` of production."""

    def integrate(batch):
        names = [member.name for member in batch.members]
        engine = Engine(batch.members, SHORT, force_model, batch.folder, torch.device("cpu"))
        after_step = engine._after_step

        def disturbed():
            after_step()
            progress = engine.progress
            if len(names) > fits and progress.stage == "production" and progress.step >= begin:
                raise torch.OutOfMemoryError("CUDA out of memory (simulated).")

        def at_once():
            raise torch.OutOfMemoryError("CUDA out of memory (simulated).")

        engine._after_step = disturbed
        if begin < 0 and len(names) > fits:
            engine._begin = at_once
        records = engine.run()
        tried.append((names, batch.folder.name, engine.resumed_step))
        return records

    return integrate


def test_a_batch_that_memory_does_not_hold_is_halved_and_goes_on(force_model, tmp_path):
    chosen, tried = members(tmp_path, "a", "b", "c"), []
    _, batches = assign(chosen, SHORT, force_model.sha256, tmp_path)
    records = carry_through(batches, tmp_path, integrate_on_a_small_gpu(force_model, 1, 30, tried))
    # At step 25 of production all three were saved together; c is of the second half, which was halved again.
    saved = SHORT.steps(0.04) + SHORT.steps(0.2) + 25
    assert [names for names, _, _ in tried] == [["a"], ["b"], ["c"]]
    assert [resumed for _, _, resumed in tried] == [saved, saved, saved]
    assert len({folder for _, folder, _ in tried}) == 3
    assert {record["status"] for record in records.values()} == {"complete"} and len(records) == 3
    assert all(trajectory_store(tmp_path / name).frames() == 8 for name in "abc")
    assert not assign(chosen, SHORT, force_model.sha256, tmp_path)[1]


def test_a_batch_that_does_not_even_begin_is_halved(force_model, tmp_path):
    tried = []
    _, batches = assign(members(tmp_path, "a", "b"), SHORT, force_model.sha256, tmp_path)
    carry_through(batches, tmp_path, integrate_on_a_small_gpu(force_model, 1, -1, tried))
    assert [(names, folder) for names, folder, _ in tried] == [(["a"], tmp_path.name), (["b"], "batch_2")]


def test_a_single_member_that_is_too_large_fails(force_model, tmp_path):
    _, batches = assign(members(tmp_path, "a"), SHORT, force_model.sha256, tmp_path)
    with pytest.raises(torch.OutOfMemoryError):
        carry_through(batches, tmp_path, integrate_on_a_small_gpu(force_model, 0, -1, []))


def test_members_that_do_not_fit_begin_in_batches_of_their_own(force_model, tmp_path):
    chosen = members(tmp_path, "a", "b", "c")
    (whole,) = assign(chosen, SHORT, force_model.sha256, tmp_path)[1]
    parts = divide(whole, [[0, 2], [1]], tmp_path)
    assert [[m.name for m in part.members] for part in parts] == [["a", "c"], ["b"]]
    assert [part.folder for part in parts] == [tmp_path, tmp_path / "batch_2"]
    assert divide(whole, [[0, 1, 2]], tmp_path) == [whole]


def test_batches_never_share_a_folder(force_model, tmp_path):
    """The pack's first group has a checkpoint; those that wait are divided again before they have one."""
    run(force_model, tmp_path, SHORT, members(tmp_path, "a"))
    (waiting,) = assign(members(tmp_path, "a", "b", "c", "d"), SHORT, force_model.sha256, tmp_path)[1]
    parts = divide(waiting, [[0], [1], [2]], tmp_path)
    assert len({part.folder for part in parts} | {tmp_path}) == 4
    (again,) = assign(members(tmp_path, "a", "b", "c", "d"), SHORT, force_model.sha256, tmp_path)[1]
    assert len({part.folder for part in divide(again, [[0, 1], [2]], tmp_path)} | {tmp_path}) == 3


def test_a_full_memory_is_known_by_its_words(force_model):
    inside_torchscript = RuntimeError("The following operation failed in the TorchScript interpreter.\nCUDA out of memory. Tried ...")
    assert gpu_is_full(inside_torchscript) and gpu_is_full(torch.OutOfMemoryError("full"))
    assert gpu_is_full(RuntimeError("CUDA error: out of memory"))
    assert not gpu_is_full(RuntimeError("index out of range"))
    cells = [bulk("NaCl", "rocksalt", 5.7, cubic=True)] * 3
    assert memory.groups(cells, 2, None, torch.device("cpu"), torch.float32) == [[0, 1, 2]]
