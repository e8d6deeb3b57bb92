"""Checks of labels, on real and on made ones, and labels that a group brings along."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ionraman.training import checks, datasets
from ionraman.training.labels import labelled_force, read_import
from ionraman.training.settings import Checks, Import

LIMITS = Checks()


def with_alpha(atoms: Atoms, alpha: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.info["alpha_A3"] = alpha.ravel()
    return copy


def test_real_labels_pass(labels):
    kept, rejected, judged = datasets.accepted("alpha", labels, LIMITS)
    assert len(kept) == len(labels) and rejected == []
    assert any(words.startswith("orientation judged") for words in judged.values())
    assert any("not judged" in words for words in judged.values())


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_wrong_units_are_named(labels, factor):
    poisoned = list(labels)
    alpha = np.reshape(labels[5].info["alpha_A3"], (3, 3))
    poisoned[5] = with_alpha(labels[5], factor * alpha)
    kept, rejected, _ = datasets.accepted("alpha", poisoned, LIMITS)
    assert [row["name"] for row in rejected] == ["r5"] and "wrong units" in rejected[0]["reason"]
    assert len(kept) == len(labels) - 1


def test_most_turned_tensors_of_the_salt_are_named_and_no_sound_ones(labels):
    salt = [atoms for atoms in labels if atoms.info["system"] == "NaCl"]
    found = 0
    for index, atoms in enumerate(salt):
        turn, poisoned = checks.random_turn(10 * index), list(salt)
        poisoned[index] = with_alpha(atoms, turn @ np.reshape(atoms.info["alpha_A3"], (3, 3)) @ turn.T)
        _, rejected, _ = datasets.accepted("alpha", poisoned, LIMITS)
        assert all(row["name"] == atoms.info["run"] and "turned" in row["reason"] for row in rejected)
        found += len(rejected)
    assert found >= 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e * np.nan, "NaN"),
        (lambda e: e + 0.05 * np.triu(np.ones((3, 3)), 1), "asymmetric"),
        (lambda e: e - 2.0 * np.eye(3), "eigenvalue"),
    ],
)
def test_one_tensor_on_its_own(change, words):
    epsilon = change(np.diag([2.3, 2.4, 2.35]))
    alpha = 40 / (4 * np.pi) * (epsilon - np.eye(3))
    assert words in checks.polarizability_problem(epsilon, alpha, 40.0, LIMITS)


def test_alpha_and_epsilon_in_two_frames_are_found():
    epsilon, turn = np.diag([2.3, 2.9, 2.35]), checks.random_turn(1)
    alpha = 40 / (4 * np.pi) * (epsilon - np.eye(3))
    assert checks.polarizability_problem(epsilon, alpha, 40.0, LIMITS) is None
    assert "different frames" in checks.polarizability_problem(turn @ epsilon @ turn.T, alpha, 40.0, LIMITS)


def force_frames(changed: np.ndarray, energy: float = -3.0) -> list[Atoms]:
    frames, rng = [], np.random.default_rng(2)
    for number in range(5):
        atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
        forces = rng.normal(size=(8, 3))
        forces -= forces.mean(axis=0)
        own = forces @ changed if number == 3 else forces
        frame = labelled_force(atoms, 8 * (energy if number == 3 else -3.0), own, None, "x")
        frame.arrays["sample_forces"] = forces
        frame.info |= {"material": "NaCl", "run": f"r{number}", "split": "train"}
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("changed", "energy", "words"),
    [
        (10 * np.eye(3), -3.0, "10 times the sampling model's"),
        (np.diag([-1.0, -1.0, 1.0]), -3.0, "point elsewhere"),
        (np.eye(3), -81.6, "from the median"),
    ],
)
def test_bad_force_labels_are_named(changed, energy, words):
    kept, rejected, _ = datasets.accepted("force", force_frames(changed, energy), LIMITS)
    assert [row["name"] for row in rejected] == ["r3"] and words in rejected[0]["reason"] and len(kept) == 4


@pytest.mark.parametrize(("factors", "rejected"), [((1, 0), 0), ((1, 20), 1), ((0.02, 0.02), 20), ((0.2, 0.2), 0)])
def test_imported_forces_may_be_small_but_not_those_of_a_whole_file(factors, rejected):
    """Factors on the forces of most of a file's frames and of its last one; beside it stand two sound files."""
    frames, rng = [], np.random.default_rng(4)
    for file, (most, last) in (("good", (1, 1)), ("sound", (1, 1)), ("other", factors)):
        for number in range(20):
            forces = rng.normal(size=(8, 3))
            forces -= forces.mean(axis=0)
            frame = labelled_force(
                bulk("NaCl", "rocksalt", 5.6, cubic=True), -24.0, forces * (last if number == 19 else most), None, "x"
            )
            frame.info |= {"material": "NaCl", "run": file, "split": "train", "source": f"{file}.extxyz[{number}]"}
            frames.append(frame)
    found = datasets.accepted("force", frames, LIMITS)[1]
    assert len(found) == rejected and all("wrong units" in row["reason"] for row in found)


def test_frames_at_rest_do_not_make_moving_ones_wrong():
    sizes = [1e-9] * 7 + [0.5, 0.6, 0.7, 0.4, 9.0]
    assert [finding.index for finding in checks.large_forces(sizes, ["NaCl"] * 12, 9.0)] == [11]


def test_compressed_imports_are_those_of_the_plain_file(tmp_path):
    frame = labelled_force(bulk("NaCl", "rocksalt", 5.7), -6.5, np.array([[0.1, 0, 0], [-0.1, 0, 0]]), None, "x")
    frame.info["material"] = "NaCl"
    taken = []
    for name in ("set.extxyz", "set.extxyz.xz", "set.extxyz.gz"):
        ase.io.write(tmp_path / name, [frame] * 3, format="extxyz")
        taken.append(read_import(Import(file=str(tmp_path / name), kind="force", level="x"), LIMITS)[0])
    assert [len(frames) for frames in taken] == [3, 3, 3]
    assert all((frames[2].arrays["REF_forces"] == taken[0][2].arrays["REF_forces"]).all() for frames in taken)


def test_levels_of_theory_are_not_mixed(labels):
    other = labels[0].copy()
    other.info["level"] = "VASP PBEsol"
    with pytest.raises(datasets.LevelMismatch, match="'QE'.*'VASP PBEsol'"):
        datasets.one_level([*labels, other], "alpha")
    pair = [labels[0].copy(), labels[1].copy()]
    for atoms, digest in zip(pair, ("aa", "bb"), strict=True):
        atoms.info["pseudopotentials"] = f"Na:{digest}"
    with pytest.raises(datasets.LevelMismatch, match="two pseudopotentials"):
        datasets.one_level(pair, "alpha")


def test_imports_take_what_is_sound_and_name_the_rest(labels, tmp_path):
    salt = [atoms.copy() for atoms in labels if atoms.info["system"] == "NaCl"][:3]
    salt[1].info["epsilon"] = np.full(9, np.nan)
    for atoms in salt:
        atoms.info.pop("alpha_A3")
    ase.io.write(tmp_path / "own.extxyz", salt)
    item = Import(file=str(tmp_path / "own.extxyz"), kind="alpha", material="NaCl", level="own")
    taken, rejected = read_import(item, LIMITS)
    assert len(taken) == 2 and [reason for _, reason in rejected] == ["not a number (NaN) in the tensor"]
    assert rejected[0][0].endswith("own.extxyz[1]")
    np.testing.assert_allclose(taken[0].info["alpha_A3"], labels_alpha(salt[0]), rtol=1e-6)


OUTCAR = """ vasp.6.4.2 20Jul23
 POTCAR:    PAW_PBE Na 08Apr2002
 POTCAR:    PAW_PBE Cl 06Sep2000
 POTCAR:    PAW_PBE Na 08Apr2002
 POTCAR:    PAW_PBE Cl 06Sep2000
   ISPIN  =      1    spin polarized calculation?
   ions per type =               1   1
   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      8
 k-points in reciprocal lattice and weights: x
   0.00000000  0.00000000  0.00000000       1.000
--------------------------------------- Iteration      1(   1)  ---------------------------------------
------------------------ aborting loop because EDIFF is reached ----------------------------------------
  in kB     -10.00000   -20.00000   -30.00000     1.00000     2.00000     3.00000
      direct lattice vectors                 reciprocal lattice vectors
     0.000000000  2.800000000  2.800000000    -0.178571429  0.178571429  0.178571429
     2.800000000  0.000000000  2.800000000     0.178571429 -0.178571429  0.178571429
     2.800000000  2.800000000  0.000000000     0.178571429  0.178571429 -0.178571429
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.10000      0.00000      0.00000        -0.500000      0.010000      0.000000
      2.80000      2.80000      2.80000         0.500000     -0.010000      0.000000
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =        -6.50000000 eV

  energy  without entropy=       -6.50000000  energy(sigma->0) =       -6.50000000
 MACROSCOPIC STATIC DIELECTRIC TENSOR (including local field effects in DFT)
 ------------------------------------------------------
           2.410000     0.010000     0.000000
           0.010000     2.420000     0.000000
           0.000000     0.000000     2.430000
 ------------------------------------------------------
"""


def test_an_outcar_gives_forces_or_the_tensor(tmp_path):
    """The layout of VASP's file, shortened to what is read."""
    (tmp_path / "OUTCAR").write_text(OUTCAR)
    common = {"file": str(tmp_path / "OUTCAR"), "material": "NaCl", "level": "VASP PBE"}
    (force,), rejected = read_import(Import(kind="force", **common), LIMITS)
    assert rejected == [] and force.info["REF_energy"] == -6.5 and force.info["level"] == "VASP PBE"
    np.testing.assert_allclose(force.arrays["REF_forces"][0], [-0.5, 0.01, 0.0])
    # VASP prints the pressure's sign; ASE's stress is its negative, in eV/A^3, xx yy zz yz xz xy.
    np.testing.assert_allclose(
        np.array(force.info["REF_stress"]) * 1602.176634, [10, 20, 30, -2, -3, -1], rtol=1e-6
    )
    (alpha,), rejected = read_import(Import(kind="alpha", **common), LIMITS)
    assert rejected == []
    tensor = np.reshape(alpha.info["alpha_A3"], (3, 3))
    assert tensor[2, 2] == pytest.approx(2 * 2.8**3 / (4 * np.pi) * 1.43) and tensor[0, 1] == tensor[1, 0] > 0
    (tmp_path / "OUTCAR").write_text(
        OUTCAR.replace("EDIFF is reached", "EDIFF was not reached (unconverged)")
    )
    assert "did not converge" in read_import(Import(kind="alpha", **common), LIMITS)[1][0][1]
    (tmp_path / "OUTCAR").write_text(OUTCAR.split(" MACROSCOPIC")[0])
    assert "no dielectric tensor" in read_import(Import(kind="alpha", **common), LIMITS)[1][0][1]


def test_an_imported_file_may_name_materials_and_weights_itself(tmp_path):
    atoms = bulk("NaCl", "rocksalt", 5.7)
    frames = []
    for number, info in enumerate(({"system": "NaCl"}, {"material": "salt", "config_weight": 0.01, "split": "test"}, {})):
        frame = labelled_force(atoms, -6.5, np.zeros((2, 3)) + (20.0 if number == 1 else 0.1) * np.array([[1], [-1]]), None, "x")
        frame.info.pop("level")
        frame.info |= info
        frames.append(frame)
    ase.io.write(tmp_path / "set.extxyz", frames)
    item = Import(file=str(tmp_path / "set.extxyz"), kind="force", level="x")
    taken, rejected = read_import(item, LIMITS)
    assert [frame.info["material"] for frame in taken] == ["NaCl", "salt"]
    assert [frame.info["split"] for frame in taken] == ["train", "test"]
    assert "config_weight" not in taken[0].info and taken[1].info["config_weight"] == 0.01
    assert len(rejected) == 1 and "of which material" in rejected[0][1]
    # A large force is no error of units where the frame was given less weight; with full weight it is.
    assert len(datasets.accepted("force", [*taken, taken[0], taken[0]], LIMITS)[0]) == 4
    taken[1].info["config_weight"] = 1.0
    assert len(datasets.accepted("force", [*taken, taken[0], taken[0]], LIMITS)[0]) == 3


def test_an_imported_polarizability_keeps_its_temperature(tmp_path):
    atoms = bulk("NaCl", "rocksalt", 5.7)
    atoms.info = {"epsilon": 2.4 * np.eye(3), "temperature_K": 900}
    ase.io.write(tmp_path / "set.extxyz", atoms)
    item = Import(file=str(tmp_path / "set.extxyz"), kind="alpha", level="x", material="NaCl")
    assert read_import(item, LIMITS)[0][0].info["temperature_K"] == 900.0


def labels_alpha(atoms: Atoms) -> np.ndarray:
    epsilon = np.reshape(atoms.info["epsilon"], (3, 3))
    return (atoms.get_volume() / (4 * np.pi) * (epsilon - np.eye(3))).ravel()
