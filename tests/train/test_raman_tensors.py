"""Raman tensors of real Quantum ESPRESSO against central differences of its dielectric tensors."""

import subprocess
import sys

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import bulk
from ionraman.training import espresso
from ionraman.training.settings import Espresso

STEP_A = 0.02


@pytest.fixture(scope="module")
def settings(root):
    return {"pseudopotentials": str(root / "tests/train/data/pseudo"), "ecutwfc_Ry": 20, "k_length_A": 12, "tr2_ph": 1e-12}


@pytest.fixture(scope="module")
def computed(root, settings, tmp_path_factory):
    """A displaced cell through the program, and the folder it worked in."""
    folder = tmp_path_factory.mktemp("raman")
    atoms = bulk("NaCl", "rocksalt", 5.6)
    atoms.positions[1] += [0.15, 0.08, -0.05]
    atoms.info |= {"material": "NaCl2", "temperature_K": 300.0}
    ase.io.write(folder / "frames.extxyz", atoms)
    (folder / "espresso.yaml").write_text(yaml.safe_dump({"training": {"espresso": settings}}))
    command = [
        sys.executable, str(root / "scripts/training/raman_tensors.py"), "frames.extxyz", "--espresso", "espresso.yaml", "--work", "work",
        "--out", "raman.extxyz",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return folder, command


def test_raman_tensors_are_the_slopes_of_alpha(computed, settings):
    folder, _ = computed
    found = ase.io.read(folder / "raman.extxyz")
    tensors = found.arrays["dalpha_dr_A2"].reshape(2, 3, 3, 3)
    np.testing.assert_allclose(tensors.sum(axis=0), 0, atol=1e-8)
    assert found.info["level"].startswith("Quantum ESPRESSO 6.7") and "LDA" in found.info["level"] and found.info["sum_rule"] < 0.2
    hessian = found.arrays["hessian_eV_A2"].reshape(6, 6)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-6)
    assert 1.0 < np.linalg.eigvalsh(hessian)[-1] < 20.0  # eV/A^2
    lda = espresso.Response({"input_dft": "LDA"}, "", espresso.FIELD.mark)
    sides = []
    for sign in (1, -1):
        moved = found.copy()
        # Both ions, against one another: of this the acoustic sum rule takes nothing off.
        moved.positions[1, 0] += sign * STEP_A / 2
        moved.positions[0, 0] -= sign * STEP_A / 2
        sides.append(np.array(espresso._calculate(moved, folder / f"side{sign}", Espresso(**settings), lda)["alpha_A3"]))
    expected = (sides[0] - sides[1]) / (2 * STEP_A)
    # The response to second order converges with the k-points in another way: 6 % here, 1 % in the cubic cell with 3x3x3.
    np.testing.assert_allclose((tensors[1, 0] - tensors[0, 0]) / 2, expected, atol=0.1 * np.abs(expected).max())


def test_a_second_run_computes_nothing_again(computed):
    folder, command = computed
    (output,) = folder.glob("work/*/ph.out")
    before = output.stat().st_mtime_ns
    again = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    assert "frames[0]: 2 ions" in again.stdout and output.stat().st_mtime_ns == before


def test_a_force_field_without_an_element_is_said_before_anything_runs(root, settings, tmp_path):
    ase.io.write(tmp_path / "frames.extxyz", bulk("KCl", "rocksalt", 6.3))
    (tmp_path / "espresso.yaml").write_text(yaml.safe_dump({"training": {"espresso": settings}}))
    command = [
        sys.executable, str(root / "scripts/training/raman_tensors.py"), "frames.extxyz", "--espresso", "espresso.yaml", "--work", "work",
        "--out", "raman.extxyz",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "found no K; allowed: a force field with all elements of the frames" in done.stderr
    assert not (tmp_path / "work").exists()
