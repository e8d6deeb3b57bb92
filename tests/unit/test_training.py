"""Parts of the training that need no program: checks on real labels, settings, splits, trust, entries of models.yaml."""

import json

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ionraman import trust
from ionraman.problems import ConfigError
from ionraman.ranking import rank
from ionraman.training import checks, datasets, sampling
from ionraman.training.cells import CellInvalid, check_electrons
from ionraman.training.descriptors import farthest_points, pair_descriptors
from ionraman.training.labels import labelled_force, read_import
from ionraman.training.settings import Checks, Import, Sample, Training, Validate, load_training
from ionraman.training.validation import targets_met
from synthetic_campaign import campaign

LIMITS = Checks()


@pytest.fixture(scope="module")
def labels(root):
    frames = ase.io.read(root / "workflow/data/polarizability_first.extxyz", ":")
    for number, atoms in enumerate(frames):
        atoms.info |= {"material": atoms.info["system"], "run": f"r{number}", "split": "train", "level": "QE"}
        atoms.calc = None
    return frames


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


def labels_alpha(atoms: Atoms) -> np.ndarray:
    epsilon = np.reshape(atoms.info["epsilon"], (3, 3))
    return (atoms.get_volume() / (4 * np.pi) * (epsilon - np.eye(3))).ravel()


def test_an_open_shell_is_refused_before_a_label_is_spent():
    salt = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    check_electrons(salt, "NaCl")
    del salt[0]
    with pytest.raises(CellInvalid, match="101 electrons"):
        check_electrons(salt, "NaCl")


def test_splits_are_by_trajectory_and_each_has_one():
    sample = Sample(temperatures_K=[300.0, 600.0], expansions=[0.0, 0.02], repeats=2)
    runs = sampling.plan(sample, "NaCl", 0)
    counts = {name: sum(run.split == name for run in runs) for name in ("train", "valid", "test")}
    assert counts == {"train": 5, "valid": 1, "test": 2} and len({run.name for run in runs}) == 8
    assert runs == sampling.plan(sample, "NaCl", 0)


def test_training_frames_are_of_the_half_with_most_disagreement():
    frames = []
    for number in range(24):
        atoms = bulk("NaCl", "rocksalt", 5.6 + 0.01 * (number % 7))
        atoms.info = {"run": f"r{number % 6}", "split": "test" if number % 6 == 0 else "valid" if number % 6 == 1 else "train"}
        frames.append(atoms)
    doubt = np.arange(24.0)[::-1]
    where = {id(atoms): k for k, atoms in enumerate(frames)}
    for choice in ("diverse", "even"):
        sample = Sample(repeats=3, choice=choice)
        chosen = sampling.choose(frames, 8, pair_descriptors, sample, doubt)
        assert len(chosen) == 8 and {atoms.info["split"] for atoms in chosen} == {"train", "valid", "test"}
        fitted = [where[id(atoms)] for atoms in chosen if atoms.info["split"] == "train"]
        assert max(fitted) < 12, "the 8 of 16 training frames with the most are the first ones"


def test_rattled_cells_lie_around_the_cell_and_its_minimum():
    cell = bulk("Cu", cubic=True, a=3.8)  # the potential's lattice constant is 3.59 A
    sample = Sample(repeats=3, rattle_A=[0.01], rattled=6, strain=0.002)
    lengths = [atoms.cell.lengths().mean() for atoms in sampling.rattled(cell, sample, EMT(), "Cu", 0)]
    assert np.allclose(lengths[::2], 3.8, atol=0.02) and np.allclose(lengths[1::2], 3.59, atol=0.03)
    alone = sampling.rattled(cell, sample.model_copy(update={"rattle_relaxed": False}), EMT(), "Cu", 0)
    assert np.allclose([atoms.cell.lengths().mean() for atoms in alone], 3.8, atol=0.02)
    assert sampling.rattled(cell, sample.model_copy(update={"rattled": 0}), EMT(), "Cu", 0) == []


def test_the_loop_goes_on_until_every_error_meets_its_target():
    limits = Validate()
    row = {"frames": 3, "force_rmse_meV_A": 30.0, "energy_rmse_meV_atom": 0.1, "stress_rmse_GPa": None}
    assert targets_met({"force": {"NaCl": row}}, limits)
    assert not targets_met({"force": {"NaCl": row | {"energy_rmse_meV_atom": 1e3}}}, limits)
    assert not targets_met({"force": {"NaCl": row}, "alpha": {}}, limits)


def test_farthest_points_spread_over_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [10, 0], [0, 10], [10, 10]])
    points = np.concatenate([centre + 0.1 * rng.normal(size=(50, 2)) for centre in centres])
    chosen = farthest_points(points, 5)  # the first is the nearest to the mean of all
    assert len(set(chosen)) == 5 and {index // 50 for index in chosen} == {0, 1, 2, 3}
    assert farthest_points(points, 0) == [] and len(farthest_points(points[:3], 9)) == 3


def test_descriptors_do_not_see_rotation_or_order():
    atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    turned, turn = atoms[np.random.default_rng(1).permutation(8)], checks.random_turn(5)
    turned.set_cell(turned.cell.array @ turn.T)
    turned.positions = turned.positions @ turn.T
    moved = atoms.copy()
    moved.positions[0] += 0.3
    one, two, three = pair_descriptors([atoms, turned, moved])
    np.testing.assert_allclose(one, two, atol=1e-9)
    assert np.abs(one - three).max() > 1e-3


SULFIDES = [
    {"Na": 6 / 16, "Sb": 2 / 16, "S": 8 / 16},
    {"Na": 5 / 15, "Sb": 1 / 15, "W": 1 / 15, "S": 8 / 15},
    {"Na": 0.5, "Cl": 0.5},
]


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("Na3SbS4", ""),
        ("Na23Sb7WS32", ""),
        ("NaCl", ""),
        ("Na2S", "from those that were trained on|holds other elements"),
        ("Na5SbS4Cl2", "no training composition holds"),
        ("Na3SbSe4", "no training composition holds"),
        ("Na2WS4", "holds other elements|from those"),
    ],
)
def test_compositions_inside_and_outside(formula, words):
    import re

    reason = trust.outside(formula, SULFIDES)
    assert bool(reason) == bool(words) and re.search(words, reason)


def test_a_card_without_compositions_leaves_trust_open():
    assert trust.verdict("NaCl", {"force": None, "alpha": {"training_compositions": SULFIDES}})[0] is None
    assert trust.verdict("NaI", {"force": None, "alpha": {"training_compositions": SULFIDES}})[0] is False
    with pytest.raises(ValueError, match="no formula"):
        trust.fractions("Na3(PS4)")


def test_untrusted_rows_are_ranked_and_marked():
    rows = campaign()
    first = next(row for row in rows if row["status"] == "complete")
    first["trust"] = {"trusted": False, "reason": "force field: elsewhere"}
    table = rank(rows, reference_temperature_K=300.0).set_index("candidate")
    row = table.loc[first["candidate"]]
    row = row if row.ndim == 1 else row[row["temperature_K"] == first["temperature_K"]].iloc[0]
    assert not row["trusted"]
    assert row["trust_note"] == "force field: elsewhere"
    assert table["trusted"].notna().sum() == 1


BLOCK = {
    "name": "x", "licence": "MIT", "materials": [{"name": "a", "candidate": "NaCl"}],
    "teacher": {"factory": "m:f", "level": "t"}, "espresso": {"pseudopotentials": "p"},
}  # fmt: skip


def test_settings_say_what_is_wrong():
    assert load_training({"training": BLOCK}).kinds == ["force", "alpha"]
    wrong = json.loads(json.dumps(BLOCK))
    wrong["materials"].append({"name": "a", "candidate": "NaCl"})
    wrong["sample"] = {"temperatures_K": [300], "expansions": [0.0]}
    wrong["alpha"] = {"member": 2}
    with pytest.raises(ConfigError) as caught:
        load_training({"training": wrong})
    text = str(caught.value)
    for words in ("training.materials: found a twice", "at least 3", "training.alpha.member: unknown key"):
        assert words in text
    with pytest.raises(ConfigError, match="at least 2, whose disagreement"):
        load_training({"training": BLOCK | {"active": {"generations": 2}}})
    with pytest.raises(ConfigError, match="missing"):
        load_training({})


def test_the_example_is_valid(root):
    example = yaml.safe_load((root / "config/training.yaml").read_text())
    training = load_training(example)
    assert training.chunks("alpha", "Na3PSe4-32", 0) == 6 and training.chunks("force", "Na3PSe4", 0) == 4


def test_digests_follow_their_groups_only():
    one = Training.model_validate(BLOCK)
    two = Training.model_validate(BLOCK | {"checks": {"asymmetry": 0.5}})
    assert one.digest("checks") != two.digest("checks") and one.digest("espresso") == two.digest("espresso")


def test_entries_are_added_and_replaced_beside_the_others(root, tmp_path):
    from ionraman.training.registry import add_entries

    file, training = tmp_path / "models.yaml", Training.model_validate(BLOCK)
    file.write_text((root / "config/models.yaml").read_text())
    before = yaml.safe_load(file.read_text())
    for _ in range(2):
        add_entries(file, training, {"force": "", "alpha": ""})
    after = yaml.safe_load(file.read_text())
    for kind in ("force", "alpha"):
        assert after[kind].pop("x") == {"path": f"models/x-{kind}", "licence": "MIT"}
    assert before == after and file.read_text().count("  x:") == 2
    file.write_text("alpha: {}\n")
    add_entries(file, training, {"force": "", "alpha": ""})
    assert yaml.safe_load(file.read_text())["alpha"]["x"]["path"] == "models/x-alpha"


def test_even_choice_takes_the_same_number_from_every_run():
    runs = ["a"] * 10 + ["b"] * 10 + ["c"] * 4
    picks = sampling.evenly(runs, 6, seed=1)
    assert sorted(runs[k] for k in picks) == ["a", "a", "b", "b", "c", "c"]
    for name in "ab":  # one of each half of a run
        first, second = sorted(k % 10 for k in picks if runs[k] == name)
        assert first < 5 <= second
    assert len(set(runs[k] for k in sampling.evenly(runs, 2, seed=4))) == 2  # fewer frames than runs
    assert sorted(sampling.evenly(runs, 24, seed=1)) == sorted(set(sampling.evenly(runs, 24, seed=1)))


def test_a_stopped_ensemble_fit_is_bit_for_bit_the_uninterrupted_one(labels, tmp_path):
    import time

    import torch
    from ionraman.training import polarizability as dielectric

    salt = [atoms for atoms in labels if atoms.info["system"] == "NaCl"]
    alpha = np.array([np.reshape(atoms.info["alpha_A3"], (3, 3)) for atoms in salt])
    shape = dielectric.Architecture(channels=2, r_max=4.0, radial=4)
    deviations = dielectric.thermal_deviation(alpha, ["NaCl"] * len(salt))
    standard = dielectric.Standard.of(salt, alpha, deviations, physical=True)
    arguments = (salt, alpha, deviations, [11, 17], shape, standard)
    whole = dielectric.fit_member(*arguments, seed=1, epochs=4, weight_decay=1e-3)
    checkpoint, pieces = tmp_path / "checkpoint.pt", 0
    while True:
        # A deadline that has passed when the fit starts: stopped at once, one epoch on at each later start.
        try:
            stopped = dielectric.fit_member(
                *arguments, seed=1, epochs=4, weight_decay=1e-3, checkpoint=checkpoint, deadline=time.monotonic() + 0.05 * pieces
            )
            break
        except dielectric.Unfinished:
            pieces += 1
    assert pieces >= 1
    for one, two in zip(whole.state_dict().values(), stopped.state_dict().values(), strict=True):
        assert torch.equal(one, two)
