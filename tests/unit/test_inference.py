"""Polarizability along a stored trajectory: computed once, again where the trajectory or the model changed."""

import dataclasses

import numpy as np
import pytest
from ase.build import bulk
from ionraman.inference import evaluate_run
from ionraman.trajectory import polarizability_store, trajectory_store

ATOMS = bulk("NaCl", "rocksalt", 5.7, cubic=True)
RECORD = {"frames": 5, "volume_A3": ATOMS.get_volume(), "sampling_fs": 10.0}


def write(folder, digest="a", symbols=None):
    rng, store = np.random.default_rng(0), trajectory_store(folder)
    metadata = {
        "species": symbols or ATOMS.get_chemical_symbols(), "cell_A": ATOMS.cell.array.tolist(), "sampling_fs": 10.0,
        "digest": digest,
    }  # fmt: skip
    for first, count in ((0, 3), (3, 2)):
        positions = ATOMS.positions + rng.normal(0, 0.1, (2, count, 8, 3))
        store.append(first, {"positions_A": positions.astype(np.float32)}, metadata)


@pytest.fixture
def run(tmp_path, alpha_model):
    write(tmp_path)
    assert evaluate_run(alpha_model, tmp_path, RECORD)["frames_computed"] == 5
    return tmp_path


def test_frames_replicas_and_species_are_in_place(run, alpha_model):
    alpha, metadata = polarizability_store(run).read()
    positions = trajectory_store(run).read("positions_A")[0]["positions_A"]
    assert alpha["alpha_A3"].shape == (2, 5, alpha_model.size, 2, 3, 3)
    assert metadata["species"] == ["Na", "Cl"]
    frame = ATOMS.copy()
    frame.positions = positions[1, 4]
    np.testing.assert_allclose(alpha["alpha_A3"][1, 4], alpha_model.predict([frame])[0], atol=1e-3)


def test_nothing_is_computed_twice(run, alpha_model):
    assert evaluate_run(alpha_model, run, RECORD)["frames_computed"] == 0
    polarizability_store(run).paths()[1].unlink()
    assert evaluate_run(alpha_model, run, RECORD)["frames_computed"] == 2


def test_another_trajectory_or_model_is_computed_anew(run, alpha_model):
    other = dataclasses.replace(alpha_model, sha256="other")
    assert evaluate_run(other, run, RECORD)["frames_computed"] == 5
    write(run, digest="b")
    record = evaluate_run(other, run, RECORD)
    assert record["frames_computed"] == 5 and record["frames"] == 5 and record["status"] == "complete"


def test_an_element_that_is_not_covered_is_a_result(tmp_path, alpha_model):
    write(tmp_path, symbols=["Na", "Br"] * 4)
    record = evaluate_run(alpha_model, tmp_path, RECORD)
    assert record["status"] == "unsupported" and "Br" in record["reason"]
