"""The active loop on the two-atom cell of NaCl: what the members disagree on is labelled; met targets end it."""

import re

import ase.io
import pandas as pd
import pytest
from ionraman.trajectory import read_json

OUT_OF_REACH = {"isotropic": 1e-4, "nvt_ps": 0.05, "nve_ps": 0.1}


@pytest.fixture(scope="module", params=["both", "alpha"])
def twice(request, tmp_path_factory, project_in):
    """Kinds, and the project after two generations that miss their targets; of polarizabilities alone the shipped force field runs the dynamics."""
    project = project_in(tmp_path_factory.mktemp("active"))
    training = project.config["training"]
    training["active"] = {"generations": 2, "force_labels": 8, "alpha_labels": 4}
    training["curve"] = {"shares": []}
    training["validate"] |= OUT_OF_REACH
    training["force"] |= {"members": 2, "epochs": 12}
    training["materials"][0] |= {"force_labels": 24, "ions_displaced": 0, "modes_displaced": 0}
    kinds = {"force": (24, 8), "alpha": (8, 4)}
    if request.param == "alpha":
        training["teacher"], training["alpha"]["epochs"] = None, 10
        del kinds["force"]
    done = project.run()
    assert done.returncode == 1 and "nacl is not registered" in done.stdout, done.stdout + done.stderr
    return kinds, project


def test_the_second_generation_labels_new_frames_where_the_members_disagree(twice):
    kinds, project = twice
    log = next((project.folder / "results/salt/logs/training").glob("sample_g1_*.log")).read_text()
    for kind, (first, more) in kinds.items():
        frames = {g: ase.io.read(project.results / f"g{g}/{kind}.extxyz", ":") for g in (0, 1)}
        assert (len(frames[0]), len(frames[1])) == (first, first + more)
        new = [atoms for atoms in frames[1] if atoms.info["generation"] == 1]
        assert len(new) == more and all(atoms.info["run"].startswith("g1-") for atoms in new)
        assert {"train", "test"} <= {atoms.info["split"] for atoms in new}
        every, fitted = map(float, re.search(rf"{kind}: members disagree by (\S+) \S+ in all frames, by (\S+)", log).groups())
        assert fitted > every > 0


def test_the_curve_and_the_validation_are_of_the_last_generation(twice):
    kinds, project = twice
    errors = [read_json(project.results / f"g{g}/errors.json") for g in (0, 1)]
    labels = [{fit["kind"]: fit["labels"] for fit in report["fits"]} for report in errors]
    assert all(labels[1][kind] > labels[0][kind] for kind in kinds)
    rows = pd.read_csv(project.results / "learning_curve.csv")
    assert {(row.generation, row.kind, row.labels) for row in rows.itertuples()} == {
        (g, kind, labels[g][kind]) for g in (0, 1) for kind in kinds
    }
    assert "/g1/" in errors[1]["models"]["alpha"]


def test_met_targets_end_the_loop(project_in, tmp_path):
    project = project_in(tmp_path)
    training = project.config["training"]
    training["teacher"], training["active"] = None, {"generations": 3, "alpha_labels": 4}
    training["materials"][0] |= {"force_labels": 0, "ions_displaced": 0, "modes_displaced": 0}
    training["alpha"]["epochs"], training["curve"] = 4, {"shares": []}
    training["validate"] |= {"isotropic": 1000, "anisotropic": 1000, "intensity": 1e6}
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(ase.io.read(project.results / "g2/alpha.extxyz", ":")) == 8
    log = next((project.folder / "results/salt/logs/training").glob("sample_g1_*.log")).read_text()
    assert "Generation 0 meets its targets" in log
