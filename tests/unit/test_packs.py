"""Packs are frozen: runs stay in theirs, new runs make new files."""

import dataclasses

import pytest
from ionraman.campaign import Campaign
from ionraman.candidates import Candidate
from ionraman.packs import plan_packs, read_packs
from ionraman.settings import ConfigError, Settings


def campaign(*names, size=1, hours=None, temperatures=(300.0,), **overrides):
    settings = Settings.model_validate(
        {"temperatures_K": list(temperatures), "compute": {"pack_size": size, "pack_hours": hours}}
    )
    return Campaign(
        settings,
        tuple(
            Candidate(name=name, structure="x.cif", mobile="Na").model_copy(
                update={"overrides": overrides.get(name, {})}
            )
            for name in names
        ),
        {},
    )


def contents(folder):
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.glob("*.tsv")}


def test_one_run_each_by_default(tmp_path):
    plan = plan_packs(campaign("a", "b", temperatures=(300.0, 450.5)), tmp_path / "packs")
    assert plan == {
        "0001": [("a", 300.0)],
        "0002": [("a", 450.5)],
        "0003": [("b", 300.0)],
        "0004": [("b", 450.5)],
    }
    assert (tmp_path / "packs/0002.tsv").read_text() == "candidate\ttemperature_K\na\t450.5\n"


def test_files_are_never_rewritten(tmp_path):
    first = plan_packs(campaign("a", "b", "c", size=2), tmp_path)
    assert first == {"0001": [("a", 300.0), ("b", 300.0)], "0002": [("c", 300.0)]}
    before = contents(tmp_path)
    assert plan_packs(campaign("a", "b", "c", size=2), tmp_path) == first
    # A new row in the middle does not fill up pack 0002, and another pack size changes nothing that exists.
    later = plan_packs(campaign("a", "new", "b", "c", size=5), tmp_path)
    assert later == first | {"0003": [("new", 300.0)]}
    assert {name: entry for name, entry in contents(tmp_path).items() if name in before} == before


def test_a_pack_holds_what_its_hours_allow(tmp_path):
    # 64 atoms: npt 5,000 steps, and 4 replicas of 1,000 of nvt and 20,000 of production
    alone_h = 64 * (5_000 + 4 * 21_000) / 500 / 3600
    long = campaign(*"abcde", size=3, hours=2.5 * alone_h)
    plan = plan_packs(long, tmp_path / "a/packs")
    assert [[name for name, _ in members] for members in plan.values()] == [["a", "b"], ["c", "d"], ["e"]]
    # A cell that is built counts with its atoms.
    for name, atoms in (("a", 10), ("b", 20), ("c", 30)):
        (tmp_path / f"b/structures/{name}").mkdir(parents=True)
        (tmp_path / f"b/structures/{name}/structure.json").write_text(f'{{"atoms": {{"numbers": {[11] * atoms}}}}}')
    plan = plan_packs(long, tmp_path / "b/packs")
    assert [[name for name, _ in members] for members in plan.values()] == [["a", "b", "c"], ["d", "e"]]
    # On a GPU small cells share the start of the kernels: together they take no longer than one.
    settings = campaign(*"abcde", size=3).settings
    compute = settings.compute.model_copy(update={"device": "cuda", "pack_hours": 1.1 * 89_000 * 0.025 / 3600})
    gpu = campaign(*"abcde", size=3)
    gpu = dataclasses.replace(gpu, settings=settings.model_copy(update={"compute": compute}))
    assert [len(members) for members in plan_packs(gpu, tmp_path / "d/packs").values()] == [3, 2]
    # One that takes longer alone is alone.
    short = campaign(*"abcde", size=3, hours=0.5 * alone_h)
    assert [len(members) for members in plan_packs(short, tmp_path / "c/packs").values()] == [1, 1, 1, 1, 1]


def test_rows_that_left_are_not_wanted_and_come_back(tmp_path):
    both = plan_packs(campaign("a", "b", size=2), tmp_path)
    assert plan_packs(campaign("b", size=2), tmp_path) == {"0001": [("b", 300.0)]}
    assert plan_packs(campaign(size=2), tmp_path) == {}
    assert plan_packs(campaign("a", "b", size=2), tmp_path) == both
    assert read_packs(tmp_path) == both


def test_members_share_the_settings_of_the_dynamics(tmp_path):
    slow, long, more = (
        {"dynamics.timestep_fs": 0.5},
        {"dynamics.production_ps": 100.0},
        {"dynamics.replicas": 5},
    )
    names = ("a", "h", "b", "long", "h2", "more")
    plan = plan_packs(campaign(*names, size=8, h=slow, h2=slow, long=long, more=more), tmp_path)
    assert [[name for name, _ in members] for members in plan.values()] == [
        ["a", "b"],
        ["h", "h2"],
        ["long"],
        ["more"],
    ]


def test_a_run_that_no_longer_fits_moves_to_a_new_pack(tmp_path):
    plan_packs(campaign("a", "b", size=2), tmp_path)
    changed = campaign("a", "b", size=2, b={"dynamics.timestep_fs": 1.0})
    moved = {"0001": [("a", 300.0)], "0002": [("b", 300.0)]}
    assert plan_packs(changed, tmp_path) == moved
    assert plan_packs(changed, tmp_path) == moved
    assert read_packs(tmp_path)["0001"] == [("a", 300.0), ("b", 300.0)]


def test_what_leaves_a_pack_takes_a_copy_of_its_checkpoints(tmp_path):
    plan_packs(campaign("a", "b", "c", "d", size=2), tmp_path)
    for pack in ("0001", "0002"):
        (tmp_path / pack).mkdir()
        (tmp_path / pack / "checkpoint.pt").write_text(pack)
    longer = {"dynamics.production_ps": 50.0}
    changed = campaign("a", "b", "c", "d", size=4, a=longer, d=longer)
    # a and d are of one length now, but have no common checkpoint.
    expected = {
        "0001": [("b", 300.0)],
        "0002": [("c", 300.0)],
        "0003": [("a", 300.0)],
        "0004": [("d", 300.0)],
    }
    assert plan_packs(changed, tmp_path, write=False) == expected and not (tmp_path / "0003.tsv").exists()
    assert plan_packs(changed, tmp_path) == expected
    assert (tmp_path / "0003/checkpoint.pt").read_text() == "0001"
    assert (tmp_path / "0004/checkpoint.pt").read_text() == "0002"


def test_runs_made_anew_leave_without_a_checkpoint(tmp_path):
    plan_packs(campaign("a", "b", size=2), tmp_path)
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001/checkpoint.pt").write_text("")
    plan = plan_packs(campaign("a", "b", size=2), tmp_path, anew={("b", 300.0)})
    assert plan == {"0001": [("a", 300.0)], "0002": [("b", 300.0)]}
    assert not (tmp_path / "0002").exists()
    assert plan_packs(campaign("a", "b", size=2), tmp_path) == plan


def test_other_files_are_ignored_and_damaged_ones_named(tmp_path):
    (tmp_path / "0001.dynamics.json").write_text("{}")
    (tmp_path / "notes.tsv").write_text("x")
    assert list(plan_packs(campaign("a"), tmp_path)) == ["0001"]
    (tmp_path / "0001.tsv").write_text("candidate\ttemperature_K\na\n")
    with pytest.raises(ConfigError, match="0001.tsv: not a pack"):
        plan_packs(campaign("a"), tmp_path)
    (tmp_path / "0001.tsv").write_text("")
    with pytest.raises(ConfigError, match="not a pack"):
        plan_packs(campaign("a"), tmp_path)


def test_runs_without_a_trajectory_share_packs_with_one_another_only(tmp_path):
    whole, idle = campaign("a", "b", "c", "d", size=2), {("b", 300.0), ("d", 300.0)}
    plan = plan_packs(whole, tmp_path / "new", idle=idle)
    assert plan == {"0001": [("a", 300.0), ("c", 300.0)], "0002": [("b", 300.0), ("d", 300.0)]}
    # A pack that was made before this was known loses them, unless it is finished.
    plan_packs(whole, tmp_path / "old")
    plan = plan_packs(whole, tmp_path / "old", idle=idle)
    assert plan == {"0001": [("a", 300.0)], "0002": [("c", 300.0)], "0003": [("b", 300.0)], "0004": [("d", 300.0)]}
    assert plan_packs(whole, tmp_path / "old") == plan  # once they can be computed they stay where they are
    before = plan_packs(whole, tmp_path / "done")
    for name in before:
        (tmp_path / f"done/{name}.dynamics.json").touch()
    assert plan_packs(whole, tmp_path / "done", idle=idle) == before
