"""A whole campaign of 8-atom cells: good and bad candidates, the table, what a second launch plans."""

import pandas as pd
import pytest
from ionraman.trajectory import trajectory_store

OVERLAP = """data_x
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1
Cl1 Cl 0.08 0 0 1
"""


@pytest.fixture(scope="module")
def finished(campaign):
    """NaCl runs; three candidates cannot: two atoms on top of each other, an unknown element, a broken file."""
    structures = campaign.folder / "config/structures"
    (structures / "overlap.cif").write_text(OVERLAP)
    (structures / "broken.cif").write_text(OVERLAP.replace("_cell_length_a 5.64", "_cell_length_a five"))
    campaign.add("good", "structures/NaCl.cif")
    campaign.add("overlap", "structures/overlap.cif")
    campaign.add("iodide", "structures/NaI.cif")
    campaign.add("broken", "structures/broken.cif")
    done = campaign.run(program="scripts/run.py")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def table(campaign):
    return pd.read_csv(campaign.results / "ranking.csv").set_index("candidate")


def test_every_candidate_is_listed_with_its_reason(campaign, finished):
    rows = table(campaign)
    assert set(rows.index) == {"good", "overlap", "iodide", "broken"}
    assert rows.status.to_dict() == {
        "good": "complete", "overlap": "invalid", "iodide": "unsupported", "broken": "invalid",
    }  # fmt: skip
    assert "0.45 A" in rows.reason["overlap"]
    assert "does not cover I" in rows.reason["iodide"]
    assert "broken.cif" in rows.reason["broken"]
    assert rows["rank"].notna().to_dict() == {
        "good": True,
        "overlap": False,
        "iodide": False,
        "broken": False,
    }


def test_the_launcher_prints_the_table_and_the_reasons(finished):
    for word in ("good", "iodide 800 K: unsupported", "Report: results/tiny/report.html"):
        assert word in finished.stdout


def test_numbers_of_the_row_that_ran(campaign, finished):
    row = table(campaign).loc["good"]
    assert row.verdict == "undetermined" and pd.isna(row.D_cm2_s)  # 4 ps are too short for a net jump
    assert 50 < row.nu1_cm < 51 and row.I_low_low < row.I_low_A3 < row.I_low_high
    assert 0 < row.R_low < 1 and row.steps == 3 * 2000
    assert len(row.force_model_sha256) == len(row.alpha_model_sha256) == 64
    run = campaign.results / "runs/good/800K"
    assert {"msd.csv", "spectrum.csv", "summary.json"} <= {path.name for path in run.iterdir()}
    assert "<table" in (campaign.results / "report.html").read_text()


def test_a_second_launch_plans_nothing(campaign, finished):
    assert campaign.planned() == []


def test_a_deleted_seal_is_written_again_without_new_steps(campaign, finished):
    segments = trajectory_store(campaign.results / "runs/good/800K").paths()
    times = [path.stat().st_mtime_ns for path in segments]
    (campaign.results / "packs/0001.dynamics.json").unlink()
    assert campaign.run().returncode == 0
    assert [path.stat().st_mtime_ns for path in segments] == times


def test_a_new_row_plans_itself_and_the_ranking(campaign, finished):
    campaign.add("second", "structures/NaCl.cif", overrides="dynamics.seed=5")
    planned = campaign.planned()
    campaign.rows.pop()
    campaign.write()
    others = {job for job in planned if "good" in job or "iodide" in job}
    assert not others
    assert {job.split()[0] for job in planned} == {
        "structure", "dynamics", "member", "polarizability", "transport", "spectrum", "summary", "ranking", "report",
    }  # fmt: skip
    assert len([job for job in planned if job.startswith("dynamics")]) == 1


def test_results_may_lie_on_another_disk(campaign, finished, tmp_path):
    campaign.config["results"] = str(tmp_path / "scratch")
    planned = campaign.planned()
    done = campaign.run("-n", "--summary")
    campaign.config["results"] = "results"
    assert len(planned) > 5 and str(tmp_path / "scratch/tiny/ranking.csv") in done.stdout
    assert not (tmp_path / "scratch/tiny/ranking.csv").exists()
    assert (tmp_path / "scratch/tiny/packs/0001.tsv").exists()


def test_settings_of_the_marker_leave_the_dynamics_alone(campaign, finished):
    campaign.config["raman"]["laser_nm"] = 532
    planned = {job.split()[0] for job in campaign.planned()}
    campaign.config["raman"]["laser_nm"] = 785
    assert planned == {"spectrum", "summary", "ranking", "report"}


def test_lengthening_computes_the_new_frames_only(campaign, finished):
    store = trajectory_store(campaign.results / "runs/good/800K")
    before = {path: path.stat().st_mtime_ns for path in store.paths()}
    campaign.config["dynamics"]["production_ps"] = 4.5
    done = campaign.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert store.frames() == 450
    record = campaign.summary("good")
    assert record["dynamics"]["frames"] == 450
    assert table(campaign).steps["good"] == 3 * 2250
