"""What the commands decide, on campaigns of files alone: what is tried again, what may go, where a length is written."""

import json

import numpy as np
import pytest
from ionraman.campaign import Campaign, read_config
from ionraman.candidates import Candidate
from ionraman.cleaning import clean, is_cleaned, kept, plan_cleaning
from ionraman.overrides import set_override
from ionraman.packs import read_packs
from ionraman.queue import campaign_jobs
from ionraman.rerun import forget, plan_attempts
from ionraman.settings import ConfigError, Settings
from ionraman.trajectory import polarizability_store, trajectory_store, write_json

RUNS = [
    {"candidate": name, "temperature_K": 800.0, "pack": pack}
    for name, pack in (("good", "0001"), ("wild", "0001"), ("broken", "0002"))
]


@pytest.fixture
def folder(tmp_path):
    """good is complete, wild unstable (one pack); broken failed in a pack of its own."""
    for pack, members in (("0001", ("good", "wild")), ("0002", ("broken",))):
        (tmp_path / "packs" / pack).mkdir(parents=True)
        (tmp_path / f"packs/{pack}.tsv").write_text(
            "candidate\ttemperature_K\n" + "".join(f"{name}\t800\n" for name in members)
        )
        (tmp_path / f"packs/{pack}/checkpoint.pt").write_bytes(b"x" * 1000)
    write_json(tmp_path / "packs/0002/progress.json", {"steps_done": 500})
    for name in ("good", "wild", "broken"):
        write_json(tmp_path / f"structures/{name}/structure.json", {"status": "complete", "reason": ""})
    for name, status in (("good", "complete"), ("wild", "unstable")):
        own = tmp_path / f"runs/{name}/800K"
        metadata = {"digest": "d" * 64, "species": ["Na"]}
        trajectory_store(own).append(0, {"positions_A": np.zeros((2, 10, 1, 3), np.float32)}, metadata)
        polarizability_store(own).append(0, {"alpha_A3": np.zeros((2, 10, 1, 1, 3, 3))}, {})
        for part in ("dynamics", "polarizability", "transport", "marker", "summary"):
            write_json(own / f"{part}.json", {"status": status, "reason": "So.", "part": part, "frames": 10})
    write_json(tmp_path / "runs/broken/800K/failure.json", {"stage": "dynamics", "reason": "out of memory"})
    return tmp_path


def campaign(*names):
    settings = Settings.model_validate({"temperatures_K": [800.0], "compute": {"pack_size": 2}})
    rows = tuple(Candidate(name=name, structure="x.cif", mobile="Na") for name in names)
    return Campaign(settings, rows, {})


def test_a_failure_is_forgotten_and_nothing_else(folder):
    attempts, refused = plan_attempts(folder, RUNS[2:])
    assert not refused and "out of memory" in attempts[0].words and "step 500" in attempts[0].words
    forget(campaign("good", "wild", "broken"), folder, attempts)
    assert not (folder / "runs/broken/800K/failure.json").exists()
    assert (folder / "packs/0002/checkpoint.pt").exists() and len(read_packs(folder / "packs")) == 2


def test_results_are_not_tried_again(folder):
    attempts, refused = plan_attempts(folder, RUNS[:2])
    assert not attempts and len(refused) == 2
    assert "good 800 K is complete" in refused[0] and "--from-scratch" in refused[0]
    assert "wild 800 K is unstable, which is a result" in refused[1]


def test_a_seal_that_holds_a_failure_goes(folder):
    seal = folder / "packs/0002.polarizability.json"
    write_json(seal, {"broken:800": {"status": "failed", "reason": ""}})
    attempts, _ = plan_attempts(folder, RUNS[2:])
    assert seal in attempts[0].remove


def test_from_scratch_leaves_the_others_of_the_pack(folder):
    attempts, refused = plan_attempts(folder, RUNS[1:2], from_scratch=True)
    assert not refused and "MB" in attempts[0].words and "another seed" in attempts[0].words
    forget(campaign("good", "wild", "broken"), folder, attempts, from_scratch=True)
    assert read_packs(folder / "packs")["0003"] == [("wild", 800.0)]
    assert not list((folder / "runs/wild/800K").iterdir()) and not (folder / "packs/0003").exists()
    assert (folder / "packs/0001/checkpoint.pt").exists()
    assert trajectory_store(folder / "runs/good/800K").frames() == 10
    # a pack that all its members left is gone
    attempts, _ = plan_attempts(folder, RUNS[2:], from_scratch=True)
    forget(campaign("good", "wild", "broken"), folder, attempts, from_scratch=True)
    assert not (folder / "packs/0002").exists()


def test_from_scratch_keeps_rows_without_a_trajectory_apart(folder):
    attempts, _ = plan_attempts(folder, RUNS[1:], from_scratch=True)
    forget(campaign("good", "wild", "broken"), folder, attempts, from_scratch=True, idle={("wild", 800.0)})
    packs = read_packs(folder / "packs")
    assert packs["0003"] == [("wild", 800.0)] and packs["0004"] == [("broken", 800.0)]


def test_a_pack_at_work_is_left_alone(folder):
    (folder / "packs/0001/lease.json").write_text("{}")
    _, refused = plan_attempts(folder, RUNS[:1], from_scratch=True)
    assert "a job is at work" in refused[0]
    plan = plan_cleaning(folder, RUNS, RUNS[:2], trajectories=True)
    assert not plan.files and "at work" in plan.staying[0]


def test_checkpoints_go_once_all_of_the_pack_are_finished_and_named(folder):
    plan = plan_cleaning(folder, RUNS, RUNS, trajectories=False)
    assert plan.files == [folder / "packs/0001/checkpoint.pt"] and plan.bytes == 1000
    assert plan.staying == ["checkpoint of pack 0002: broken:800 not finished"]
    plan = plan_cleaning(folder, RUNS, RUNS[:1], trajectories=False)
    assert not plan.files and plan.staying == ["checkpoint of pack 0001: shared with wild:800"]


def test_a_cleaned_trajectory_leaves_its_results(folder):
    own = folder / "runs/good/800K"
    plan = plan_cleaning(folder, RUNS, RUNS, trajectories=True)
    assert plan.bytes == 1000 + sum(path.stat().st_size for path in folder.glob("runs/*/800K/*/*.npz"))
    clean(plan)
    assert not list(folder.glob("runs/*/800K/*/*.npz")) and is_cleaned(own)
    assert json.loads((own / "trajectory/progress.json").read_text())["digest"] == "d" * 64
    assert kept(own, "transport")["part"] == "transport"
    assert kept(folder / "runs/broken/800K", "transport") is None


def test_a_kept_result_of_other_settings_is_not_passed_off(folder):
    own = folder / "runs/good/800K"
    write_json(own / "cleaned.json", {"marker": {"laser_nm": 785.0}})
    assert kept(own, "marker", laser_nm=785)["laser_nm"] == 785
    with pytest.raises(ValueError, match="laser_nm 785.0, and 532 is asked for.*rerun --from-scratch"):
        kept(own, "marker", laser_nm=532)


TABLE = "# mine\r\nname\tstructure\tmobile\toverrides\ttags\r\nNaCl\tx.cif\tNa\tsampling_fs=6; production_ps=3\ta; b\r\nlast\ty.cif\tNa"


def test_an_override_changes_its_cell_alone():
    changed = set_override(TABLE, "NaCl", "dynamics.production_ps", "20")
    assert changed == TABLE.replace("production_ps=3", "production_ps=20")
    assert set_override(TABLE, "last", "dynamics.production_ps", "20") == TABLE + "\tproduction_ps=20"
    dotted = TABLE.replace("production_ps=3", "dynamics.production_ps=3")
    assert set_override(dotted, "NaCl", "dynamics.production_ps", "20") == changed
    with pytest.raises(KeyError):
        set_override(TABLE, "# mine", "dynamics.production_ps", "20")


def test_a_table_without_the_column_gets_it():
    table = "\n# x\nname\tstructure\tmobile\nNaCl\tx.cif\tNa\nNaI\ty.cif\tNa\n"
    assert set_override(table, "NaI", "dynamics.production_ps", "20") == (
        "\n# x\nname\tstructure\tmobile\toverrides\nNaCl\tx.cif\tNa\nNaI\ty.cif\tNa\tproduction_ps=20\n"
    )


def test_overlays_merge_blocks_and_replace_lists(tmp_path):
    (tmp_path / "a.yaml").write_text("x: {one: 1, two: 2}\nlist: [1, 2]\n")
    (tmp_path / "b.yaml").write_text("x: {two: 3}\nlist: [4]\n")
    (tmp_path / "c.yaml").write_text("")
    merged = read_config([tmp_path / f"{name}.yaml" for name in "abc"])
    assert merged == {"x": {"one": 1, "two": 3}, "list": [4]}
    (tmp_path / "b.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="b.yaml: found list"):
        read_config([tmp_path / "a.yaml", tmp_path / "b.yaml"])


SQUEUE = """#!/bin/sh
echo '41|ionraman-abc-x|RUNNING|1:02|1:00:00|gpu1|rule_dynamics_wildcards_0002'
echo '42|5f0c|PENDING|0:00|30:00|(Priority)|rule_polarizability_wildcards_0001'
echo '43|other|RUNNING|0:10|30:00|cpu1|rule_dynamics_wildcards_0001'
"""


def test_jobs_are_found_by_the_names_of_the_launches(tmp_path, monkeypatch):
    folder = tmp_path / "results/tiny"
    write_json(folder / "launch.json", {"name": "ionraman-abc"})
    (tmp_path / "results/snakemake-1.log").write_text("SLURM run ID: 5f0c\nCampaign folder: results/tiny\n")
    (tmp_path / "results/snakemake-2.log").write_text("SLURM run ID: other\nCampaign folder: results/else\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert campaign_jobs(folder) == ([], "")  # no SLURM here
    squeue = tmp_path / "bin/squeue"
    squeue.parent.mkdir()
    squeue.write_text(SQUEUE)
    squeue.chmod(0o755)
    jobs, problem = campaign_jobs(folder)
    assert [(job.number, job.state, job.task) for job in jobs] == [
        ("41", "RUNNING", "dynamics 0002"),
        ("42", "PENDING", "polarizability 0001"),
    ]
    assert not problem and jobs[1].where == "(Priority)"
    squeue.write_text("#!/bin/sh\necho controller is down >&2\nexit 1\n")
    assert campaign_jobs(folder) == ([], "squeue does not answer (controller is down)")
