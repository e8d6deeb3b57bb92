"""Members of a pack that part ways: one is lengthened, left out, repaired or cleaned, and the others lose nothing."""

import shutil

import numpy as np
import pytest
import torch
from ase.build import bulk
from ionraman.batches import assign
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
