"""The commands on one finished campaign of two 8-atom cells in one pack, of which every test takes a copy."""

import re
import shutil
import zipfile
from copy import deepcopy

import numpy as np
import pytest
from ase.io import read
from ionraman.trajectory import polarizability_store, trajectory_store

from .conftest import Campaign


@pytest.fixture(scope="module")
def finished(tmp_path_factory, root):
    campaign = Campaign(tmp_path_factory.mktemp("finished"), root)
    campaign.config["dynamics"] |= {"production_ps": 2.0, "replicas": 3, "npt_ps": 0.04, "npt_limit_ps": 0.04}
    campaign.config["compute"]["pack_size"] = 2
    campaign.config["raman"]["nu2_cm"] = 180  # 2 ps resolve 100 cm^-1
    campaign.add("one", "structures/NaCl.cif")
    campaign.add("two", "structures/NaCl.cif")
    done = campaign.run(program="scripts/run.py")
    assert done.returncode == 0, done.stdout + done.stderr
    return campaign


@pytest.fixture
def campaign(finished, tmp_path):
    """A copy that can be changed."""
    shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)
    copy = Campaign.__new__(Campaign)
    vars(copy).update(vars(finished))
    copy.folder, copy.rows, copy.config = tmp_path / "copy", list(finished.rows), deepcopy(finished.config)
    copy.results = copy.folder / "results" / "tiny"
    return copy


def command(campaign, word, *arguments):
    return campaign.run(*arguments, program=f"scripts/{word}.py")


def segments(campaign, name):
    own = campaign.results / f"runs/{name}/800K"
    paths = [*trajectory_store(own).paths(), *polarizability_store(own).paths()]
    return {path.name: path.stat().st_mtime_ns for path in paths}


def test_clean_leaves_a_launch_nothing_to_do(campaign):
    table = (campaign.results / "ranking.csv").read_bytes()
    asked = command(campaign, "clean", "--trajectories")
    assert asked.returncode and "add --yes" in asked.stderr and segments(campaign, "one")
    done = command(campaign, "clean", "--trajectories", "--yes")
    assert done.returncode == 0 and "frees" in done.stdout, done.stderr
    assert not segments(campaign, "one") and not list(campaign.results.glob("packs/*/*.pt"))
    assert campaign.planned() == []
    # A lost seal brings back the same results, though nothing is left to compute them from.
    for seal in ("packs/0001.dynamics.json", "packs/0001.polarizability.json", "runs/one/800K/marker.json"):
        (campaign.results / seal).unlink()
    done = campaign.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (campaign.results / "ranking.csv").read_bytes() == table
    refused = command(campaign, "extend", "one", "--ps", "1")
    assert refused.returncode and "cannot go on" in refused.stderr


def test_export_holds_what_a_paper_needs(finished, tmp_path):
    target = tmp_path / "paper.zip"
    done = finished.run("--trajectories", "one", "--output", str(target), program="scripts/export.py")
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(target) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {
        "ranking.csv", "report.html", "methods.md", "references.bib", "versions.json", "seeds.csv", "structures.csv",
        "config/config.yaml", "config/tiny.yaml", "config/tiny.tsv", "config/models.yaml", "config/structures/NaCl.cif",
        "figures/overview.svg", "figures/overview.pdf", "models/force_small/card.json", "models/alpha_small/card.json",
        "spectra/two_800K.csv", "msd/one_800K.csv", "cells/one.cif", "summaries/two_800K.json",
    } <= names  # fmt: skip
    assert (tmp_path / "figures/overview.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "figures/overview.svg").read_text()
    header = (tmp_path / "spectra/two_800K.csv").read_text().splitlines()[0]
    assert header.startswith("wavenumber [cm^-1],S_a [A^3 per cm^-1],")
    frames = read(tmp_path / "trajectories/one_800K_replica3.extxyz", ":")
    arrays, metadata = trajectory_store(finished.results / "runs/one/800K").read()
    assert len(frames) == 200 and frames[1].info["time_ps"] == pytest.approx(0.01)
    assert np.allclose([atoms.positions for atoms in frames], arrays["positions_A"][2], atol=1e-5)
    assert np.allclose(frames[0].cell.array, metadata["cell_A"], atol=1e-6)
    text = (tmp_path / "methods.md").read_text()
    for words in (
        "2 candidates at 800 K (2 runs",
        "3 replicas",
        "time step of 2 fs",
        "run at constant energy for 2 ps",
    ):
        assert words in text
    cited = {key for group in re.findall(r"\[([A-Z][^\]]+)\]", text) for key in group.split(", ")}
    defined = set(re.findall(r"^@\w+\{([^,]+),", (tmp_path / "references.bib").read_text(), re.MULTILINE))
    assert cited <= defined and {"Grumet2026", "Batatia2022", "structure:NaCl"} <= defined


def test_check_of_a_finished_campaign_and_a_budget(campaign):
    done = command(campaign, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 candidates, 2 runs in 1 packs" in done.stdout and "none: everything is finished" in done.stdout
    campaign.config["budget"] = {"disk_GB": 1e-6}
    done = command(campaign, "run")
    assert (
        done.returncode == 1
        and "more than budget.disk_GB" in done.stdout
        and "Nothing was launched" in done.stdout
    )


def test_rerun_from_scratch_plans_that_run_alone(campaign):
    done = command(campaign, "rerun", "one", "--from-scratch", "--yes", "--no-launch")
    assert done.returncode == 0 and "To go on: scripts/campaign --configfile config/tiny.yaml" in done.stdout
    planned = campaign.planned()
    assert "dynamics pack=0002" in planned and segments(campaign, "two") and not segments(campaign, "one")


def test_a_launch_at_work_is_not_disturbed(campaign):
    locks = campaign.folder / ".snakemake/locks"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0.input.lock").write_text("")
    for word, *arguments in (["clean", "--yes"], ["rerun", "--failed"], ["extend", "one", "--ps", "1"]):
        done = command(campaign, word, *arguments)
        assert done.returncode and "A launch is at work" in done.stderr


def test_extend_one_of_a_pack_computes_its_new_frames_only(campaign):
    before = {name: segments(campaign, name) for name in ("one", "two")}
    done = command(campaign, "extend", "two", "--ps", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "two: production_ps 2 -> 2.5" in done.stdout
    table = (campaign.folder / "config/tiny.tsv").read_text()
    assert "two\tstructures/NaCl.cif\tNa\t\tproduction_ps=2.5\n" in table
    after = {name: segments(campaign, name) for name in ("one", "two")}
    assert after["one"] == before["one"]
    assert {key: after["two"][key] for key in before["two"]} == before["two"]
    assert campaign.summary("two")["dynamics"]["frames"] == 250
    assert campaign.summary("one")["dynamics"]["frames"] == 200
    assert campaign.summary("two")["transport"]["run_ps"] == pytest.approx(2.5, abs=0.02)
