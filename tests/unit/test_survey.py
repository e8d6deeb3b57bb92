"""What a campaign will cost and what of it cannot run, before anything runs."""

import json
import sys

import numpy as np
import pytest
import yaml
from ionraman import survey as module
from ionraman.campaign import load_campaign, read_config
from ionraman.estimate import (
    STARTUP_S,
    TABLES_BYTES,
    Load,
    Speeds,
    architecture,
    pack_hours,
    read_probe,
    read_speeds,
    run_bytes,
)
from ionraman.protocol import Protocol
from ionraman.survey import idle_runs, over_budget, survey
from ionraman.trajectory import polarizability_store, trajectory_store, write_json

SPEEDS = Speeds("cpu", "here", {"npt": [(10, 0.1)], "nve": [(10, 0.01), (30, 0.02)], "alpha": [(100, 0.5)]})
PROTOCOL = Protocol(relax_steps=100, npt_ps=1, npt_limit_ps=1, nvt_ps=1, production_ps=9, replicas=2)


@pytest.fixture
def unmeasured(root, tmp_path, monkeypatch):
    """A table of speeds without `medium` on a GPU."""
    lines = (root / module.SPEED_TABLE).read_text().splitlines(keepends=True)
    table = tmp_path / "speed.tsv"
    table.write_text("".join(line for line in lines if not (line.startswith("cuda") and "64x0e" in line)))
    monkeypatch.setattr(module, "SPEED_TABLE", str(table))


def test_times_between_and_beyond_the_measured_sizes():
    found = [SPEEDS.seconds("nve", atoms) for atoms in (1, 10, 20, 30, 60)]
    assert found == pytest.approx([0.01, 0.01, 0.015, 0.02, 0.04])


def test_hours_of_a_pack_are_those_of_its_steps():
    # npt: 100 + 500 steps of 10 atoms; nve: 5000 steps of 20 atoms; 2 x 900 frames of 10 atoms in batches of 100
    expected = 2 * STARTUP_S + 600 * 0.1 + 5000 * 0.015 + 1800 * 10 / 100 * 0.5
    assert pack_hours([Load(10, 2, PROTOCOL)], SPEEDS) == pytest.approx(expected / 3600)
    assert pack_hours([Load(5, 2, PROTOCOL)] * 2, SPEEDS) == pytest.approx(expected / 3600)


def test_bytes_are_those_that_a_run_writes(tmp_path):
    shape = (2, 900)
    trajectory_store(tmp_path).append(
        0,
        {
            "positions_A": np.zeros((*shape, 10, 3), np.float32),
            "energy_eV": np.zeros(shape),
            "temperature_K": np.zeros(shape),
        },
        {},
    )
    polarizability_store(tmp_path).append(0, {"alpha_A3": np.zeros((*shape, 4, 3, 3, 3), np.float32)}, {})
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.npz"))
    assert run_bytes(Load(10, 3, PROTOCOL), 4) - TABLES_BYTES == pytest.approx(written, rel=0.01)


def test_the_table_that_ships_knows_the_shipped_force_field(root):
    model = architecture(root / "workflow/models/force-small")
    speeds = read_speeds(root / module.SPEED_TABLE, "cpu", model)
    assert {"npt", "nve", "alpha"} <= set(speeds.rows)
    assert 1e-4 < speeds.seconds("nve", 64) < 1
    assert read_speeds(root / module.SPEED_TABLE, "cpu", "another") is None


def test_a_probe_counts_for_its_force_field_only(tmp_path):
    file = tmp_path / "probe.json"
    assert read_probe(file, "a") is None
    probe = {
        "force_model": "a",
        "device": "cuda",
        "when": "now",
        "hardware": "X",
        "speeds": {"nve": [[8, 0.1]]},
    }
    write_json(file, probe)
    assert read_probe(file, "b") is None
    assert read_probe(file, "a").device == "cuda" and read_probe(file, "a").seconds(
        "nve", 16
    ) == pytest.approx(0.2)


@pytest.fixture
def project(tmp_path, root):
    """Four rows: one runs, one without its elements in the models, one without sodium, one with atoms on top of each other."""
    for name in ("workflow", "config"):
        (tmp_path / name).symlink_to(root / name)
    structures = root / "config/structures"
    cell = (structures / "NaCl.cif").read_text()
    (tmp_path / "own").mkdir()
    for name in ("NaCl", "NaI"):
        (tmp_path / f"own/{name}.cif").write_text((structures / f"{name}.cif").read_text())
    (tmp_path / "own/broken.cif").write_text(cell.replace("_cell_length_a", "_cell_length_x"))
    rows = [
        "name\tstructure\tmobile",
        "good\tNaCl.cif\tNa",
        "iodide\tNaI.cif\tNa",
        "potassium\tNaCl.cif\tK",
        "broken\tbroken.cif\tNa",
    ]
    (tmp_path / "own/table.tsv").write_text("\n".join(rows) + "\n")
    overlay = {
        "campaign": "own", "candidates": "own/table.tsv", "select": {"tags": []}, "compute": {"device": "cpu"},
        "structure": {"min_image_A": 5, "max_atoms": 8},
    }  # fmt: skip

    def load(**more):
        (tmp_path / "own/overlay.yaml").write_text(yaml.safe_dump(overlay | more))
        return load_campaign(
            read_config([tmp_path / "config/config.yaml", tmp_path / "own/overlay.yaml"]), tmp_path
        )

    return tmp_path, load


def test_survey_says_what_will_not_run_and_leaves_no_pack(project, monkeypatch):
    root, load = project
    found = survey(load(), root)
    notes = {row.run[0]: row.note for row in found.rows}
    assert [row.run[0] for row in found.rows if row.computed] == ["good"] and notes["good"] == ""
    assert notes["iodide"] == "unsupported: the force field does not cover I"
    assert notes["potassium"].startswith("invalid:") and "holds no K" in notes["potassium"]
    assert notes["broken"].startswith("invalid:") and "broken.cif" in notes["broken"]
    assert not (root / "results/own/packs").exists()
    assert found.total_h > 0 and found.bytes > TABLES_BYTES
    monkeypatch.setattr(module, "_build", None)  # nothing is built again
    assert survey(load(), root).rows == found.rows


def test_later_launches_know_what_gets_no_trajectory_without_building_anything(project, monkeypatch):
    root, load = project
    assert idle_runs(load(), root) == set()  # nothing was surveyed yet
    survey(load(), root)
    monkeypatch.setattr(module, "_build", None)
    assert {name for name, _ in idle_runs(load(), root)} == {"iodide", "potassium", "broken"}
    file = root / "own/broken.cif"
    file.write_text(file.read_text() + "# mended")
    assert {name for name, _ in idle_runs(load(), root)} == {"iodide", "potassium"}


def test_a_budget_stops_what_exceeds_it(project, unmeasured, monkeypatch):
    root, load = project
    found = survey(load(), root)
    assert over_budget(load(), found) == []
    assert over_budget(load(budget={"gpu_hours": 1000, "disk_GB": 1}), found) == []
    hours, disk = over_budget(load(budget={"gpu_hours": 1e-6, "disk_GB": 1e-6}), found)
    assert "more than budget.gpu_hours, 1e-06" in hours and "more than budget.disk_GB" in disk
    # The launcher asks the same.
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", [str(root / "workflow/../scripts"), *sys.path])
    from run import expectation

    load(budget={"gpu_hours": 1e-6})
    said, problems = expectation(["--configfile", "own/overlay.yaml"])
    assert len(problems) == 1 and "GB on disk" in said[0]
    assert expectation([])[1] == []
    # The device, which decides the hours, is often that of the profile.
    (root / "mine").mkdir()
    (root / "mine/config.yaml").write_text("config:\n  - 'compute={device: cuda}'\n  - 'models={force: medium}'\n")
    said, (unknown,) = expectation(["--configfile", "own/overlay.yaml", "--profile", "mine"])
    assert "on cuda is not known" in unknown and "unknown length" in said[0]


def test_finished_packs_count_as_measured(project):
    root, load = project
    folder = root / "results/own/packs"
    folder.mkdir(parents=True)
    (folder / "0001.tsv").write_text("candidate\ttemperature_K\ngood\t900\n")
    write_json(folder / "0001.dynamics.json", {"good:900": {"seconds": 7200}})
    assert survey(load(), root).spent_h == {}
    write_json(folder / "0001.polarizability.json", {"good:900": {"seconds": 3600}})
    found = survey(load(), root)
    assert found.spent_h == {"0001": 3} and found.total_h == pytest.approx(3)
    write_json(folder / "0001.polarizability.json", {"good:900": {"seconds": 3600, "alpha_model_sha256": "of another"}})
    assert survey(load(), root).spent_h == {}  # the polarizability will be computed again


def test_unknown_speed_is_said_and_a_budget_then_stops(project, unmeasured):
    root, load = project
    campaign = load(compute={"device": "cuda"}, models={"force": "medium"}, budget={"gpu_hours": 5})
    found = survey(campaign, root)
    assert found.total_h is None and found.speeds is None
    assert "check --probe" in over_budget(campaign, found)[0]
    assert json.loads((root / "results/own/survey.json").read_text())
