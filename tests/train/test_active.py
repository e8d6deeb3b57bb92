"""The active loop on the two-atom cell of NaCl: what the members disagree on is labelled; met targets end it."""

import re

import ase.io
import pandas as pd
import pytest
from ionraman.trajectory import read_json


@pytest.fixture(scope="module")
def twice(tmp_path_factory, project_in):
    """The project after two generations."""
    project = project_in(tmp_path_factory.mktemp("active"))
    training = project.config["training"]
    training["active"] = {"generations": 2, "force_labels": 8, "alpha_labels": 4}
    training["curve"] = {"shares": []}
    training["force"] |= {"members": 2, "epochs": 12}
    training["validate"]["phonon_rmse_cm"] = 1000
    training["materials"][0] |= {"force_labels": 24, "ions_displaced": 0}
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def test_the_second_generation_labels_frames_of_the_student_where_the_members_disagree(twice):
    for kind, first, more in (("force", 24, 8), ("alpha", 8, 4)):
        frames = {g: ase.io.read(twice.results / f"g{g}/{kind}.extxyz", ":") for g in (0, 1)}
        assert (len(frames[0]), len(frames[1])) == (first, first + more)
        new = [atoms for atoms in frames[1] if atoms.info["generation"] == 1]
        assert len(new) == more and all(atoms.info["run"].startswith("g1-") for atoms in new)
        assert {"train", "test"} <= {atoms.info["split"] for atoms in new}
    log = next((twice.folder / "results/salt/logs/training").glob("sample_g1_*.log")).read_text()
    for kind in ("force", "alpha"):
        every, fitted = map(float, re.search(rf"{kind}: members disagree by (\S+) \S+ in all frames, by (\S+)", log).groups())
        assert fitted > every > 0


def test_the_curve_and_the_registered_model_are_of_the_last_generation(twice):
    errors = [read_json(twice.results / f"g{g}/errors.json") for g in (0, 1)]
    labels = [{fit["kind"]: fit["labels"] for fit in report["fits"]} for report in errors]
    assert all(labels[1][kind] > labels[0][kind] for kind in ("force", "alpha"))
    rows = pd.read_csv(twice.results / "learning_curve.csv")
    assert {(row.generation, row.kind, row.labels) for row in rows.itertuples()} == {
        (g, kind, labels[g][kind]) for g in (0, 1) for kind in labels[g]
    }
    assert "/g1/" in errors[1]["models"]["alpha"] and (twice.results / "registered.json").exists()


def test_met_targets_end_the_loop(project_in, tmp_path):
    project = project_in(tmp_path)
    training = project.config["training"]
    # Polarizabilities alone: the shipped force field runs the dynamics of each generation.
    training["teacher"], training["active"] = None, {"generations": 3, "alpha_labels": 4}
    training["materials"][0] |= {"force_labels": 0, "ions_displaced": 0}
    training["alpha"]["epochs"], training["curve"] = 4, {"shares": []}
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(ase.io.read(project.results / "g2/alpha.extxyz", ":")) == 8
    log = next((project.folder / "results/salt/logs/training").glob("sample_g1_*.log")).read_text()
    assert "Generation 0 meets its targets" in log
