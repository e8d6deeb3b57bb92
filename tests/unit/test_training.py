"""Parts of the training that need no program: settings, samples, splits, trust, a stopped fit, entries of models.yaml."""

import json
import re
import shutil
import sys
import time

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.geometry import find_mic
from ionraman import trust
from ionraman.problems import ConfigError
from ionraman.raman import powder_spectrum, spectral_density
from ionraman.ranking import rank
from ionraman.training import checks, evaluation, forcefield, sampling
from ionraman.training.cells import CellInvalid, check_electrons
from ionraman.training.descriptors import farthest_points, pair_descriptors
from ionraman.training.espresso import k_points
from ionraman.training.settings import AlphaFit, ForceFit, Sample, Training, Validate, load_training
from ionraman.training.validation import from_errors, targets_met
from ionraman.units import KB_EV
from synthetic_campaign import campaign


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


def test_the_response_to_single_ions_is_judged_whole_and_in_parts():
    """A model with the right anisotropic change and none of the isotropic one."""
    shear, frames = np.array([[0, 0.3, 0], [0.3, 0, 0], [0, 0, 0]]), []
    for ion, alpha in ((-1, 20 * np.eye(3)), (0, 20.4 * np.eye(3) + shear)):
        atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
        atoms.info |= {"material": "salt", "ion": ion, "alpha_A3": alpha.ravel()}
        frames.append(atoms)

    class Model:
        @staticmethod
        def predict(given):
            return np.array([[[17 * np.eye(3) + (shear if atoms.info["ion"] >= 0 else 0)]] for atoms in given])

    row = evaluation.ion_response(Model, frames)["salt"]
    assert row["isotropic"] == pytest.approx(1) and row["anisotropic"] == pytest.approx(0, abs=1e-9)
    assert row["relative_error"] == pytest.approx(0.4 * 3**0.5 / (0.48 + 0.18) ** 0.5) and row["ions"] == 1


def test_cells_are_displaced_along_their_softest_modes():
    cell = bulk("Cu", cubic=True, a=3.7)  # its minimum is at 3.59 A
    cell[0].symbol = "Ag"
    frames = sampling.modes_displaced(cell, 4, Sample(mode_displacement_A=0.04), EMT(), "CuAg")
    assert len(frames) == 8 and {atoms.info["split"] for atoms in frames} == {"mode"}
    wavenumbers = [atoms.info["wavenumber_cm"] for atoms in frames[::2]]
    assert wavenumbers == sorted(wavenumbers) and wavenumbers[0] > 50, "the three translations are no modes"
    directions = []
    for up, down in zip(frames[::2], frames[1::2], strict=True):
        assert up.cell.lengths().max() < 3.75 and up.info["coordinate"] == -down.info["coordinate"] > 0
        apart, _ = find_mic(up.positions - down.positions, up.cell)
        assert np.linalg.norm(apart, axis=1).max() == pytest.approx(0.08)
        directions.append((apart * up.get_masses()[:, None] ** 0.5).ravel() / (2 * up.info["coordinate"]))
        # Harmonic: the energies of both sides above the minimum are w^2 Q^2/2.
        energies = []
        for atoms in (up, down, middle(up, down)):
            atoms.calc = EMT()
            energies.append(atoms.get_potential_energy())
        curvature = (energies[0] + energies[1] - 2 * energies[2]) / up.info["coordinate"] ** 2
        assert curvature**0.5 * 521.4709 == pytest.approx(up.info["wavenumber_cm"], rel=0.03)
    np.testing.assert_allclose(np.array(directions) @ np.transpose(directions), np.eye(4), atol=1e-6)
    assert len(sampling.modes_displaced(cell, 99, Sample(), EMT(), "CuAg")) == 2 * 9


def middle(up, down):
    """The cell between two."""
    atoms = up.copy()
    atoms.positions -= find_mic(up.positions - down.positions, up.cell)[0] / 2
    return atoms


def mode_pair(change, *, wavenumber=80.0, coordinate=0.5, mode=3):
    """Cells displaced along one mode whose labels differ by `change`."""
    frames = []
    for side in (1, -1):
        atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
        alpha = 20 * np.eye(3) + side * np.asarray(change) / 2
        atoms.info |= {"material": "salt", "mode": mode, "wavenumber_cm": wavenumber, "coordinate": side * coordinate}
        atoms.info["alpha_A3"] = alpha.ravel()
        frames.append(atoms)
    return frames


def test_the_intensity_of_a_mode_is_that_of_its_spectrum():
    """Against the spectral density of alpha(t) = alpha_0 + alpha' Q(t), Q(t) the oscillation with <Q^2> = kT/w^2."""
    change = np.array([[0.3, 0.1, 0], [0.1, -0.2, 0.05], [0, 0.05, 0.1]])
    up, down = mode_pair(change)
    line = evaluation.mode_intensities(change[None], [up], 300.0)[0]
    step_ps, frames = 0.02, 40_000
    size = (2 * 8.617333e-5 * 300) ** 0.5 / (80.0 / 521.4709)
    coordinate = size * np.cos(2 * np.pi * 0.0299792458 * 80.0 * step_ps * np.arange(frames))
    alpha = 20 * np.eye(3) + change / (2 * up.info["coordinate"]) * coordinate[:, None, None]
    density = spectral_density(alpha, step_ps, up.get_volume())
    spectrum = powder_spectrum(density, 300.0)
    near = np.abs(spectrum.wavenumber_cm - 80) < 15
    step_cm = spectrum.wavenumber_cm[1] - spectrum.wavenumber_cm[0]
    assert spectrum.intensity[near].sum() * step_cm == pytest.approx(line, rel=0.01)


def test_the_modes_of_a_model_are_compared_with_the_labels():
    change = np.diag([0.4, -0.1, 0.2])

    class Model:
        scale = 1.1

        @classmethod
        def predict(cls, given):
            return np.array([[[17 * np.eye(3) + cls.scale * np.sign(atoms.info["coordinate"]) * change / 2]] for atoms in given])

    frames = mode_pair(change) + mode_pair(change, wavenumber=95.0, mode=4)
    row = evaluation.mode_response(Model, [*frames, *mode_pair(change, mode=7)[:1]])["salt"]
    assert row["modes"] == 2 and row["wavenumber_cm"] == [80.0, 95.0], "a mode with one label only is none"
    assert row["relative_error"] == pytest.approx(0.21) and row["tensor_error"] == pytest.approx(0.1)
    limits = Validate(mode_intensity=0.2)
    (check,) = from_errors({}, limits, modes={"salt": row})
    assert check.passed is False and "2 Gamma modes of 80 to 95 cm^-1" in check.note
    silent = evaluation.mode_response(Model, mode_pair(1e-3 * change))["salt"]
    (check,) = from_errors({}, limits, modes={"salt": silent})
    assert check.passed is None and check.value is None and "show no line" in check.note


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


def test_a_material_can_weigh_more_in_the_force_fit(tmp_path, monkeypatch):
    frames = []
    for material, weights in (("salt", {}), ("soft", {}), ("soft", {"config_weight": 0.1})):
        atoms = bulk("NaCl", "rocksalt", 5.6)
        atoms.info = {"material": material, "REF_energy": -6.0, "REF_stress": np.zeros(6), **weights}
        atoms.arrays["REF_forces"] = np.zeros((2, 3))
        frames.append(atoms)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))  # the files are written before mace_run_train starts
    for weights, words in (({"soft": 10.0}, "ended with 1"), ({"sofd": 10.0}, "names sofd: no training frame")):
        settings = ForceFit(material_weights=weights)
        with pytest.raises(forcefield.FitFailed, match=words):
            forcefield.fit(frames, frames[1:2], tmp_path, settings, seed=0, deadline=time.monotonic() + 60, device="cpu")
    for name, expected in (("train", [1.0, 10.0, 1.0]), ("valid", [1.0])):
        written = ase.io.read(tmp_path / f"{name}.extxyz", ":")
        assert [atoms.info["config_weight"] for atoms in written] == pytest.approx(expected)


def test_a_stopped_ensemble_fit_is_bit_for_bit_the_uninterrupted_one(labels, tmp_path):
    import time

    import torch
    from ionraman.training import polarizability as dielectric

    salt = [atoms for atoms in labels if atoms.info["system"] == "NaCl"]
    alpha = np.array([np.reshape(atoms.info["alpha_A3"], (3, 3)) for atoms in salt])
    shape = dielectric.Architecture(channels=2, r_max=4.0, radial=4)
    deviations = dielectric.thermal_deviation(alpha, ["NaCl"] * len(salt))
    standard = dielectric.Standard.of(salt, alpha, deviations, AlphaFit())
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


def test_labels_of_the_shipped_ensemble_share_their_k_points(root):
    """Of Na2S, 2x2x2 and 3x3x3 points differ by as much as heat does."""
    for name in ("first", "doped", "hot", "even", "second", "third", "fourth", "fifth"):
        for atoms in ase.io.read(root / f"workflow/data/polarizability_{name}.extxyz", ":"):
            found = re.fullmatch(r"Quantum ESPRESSO 6.7MaX, PBE, 30 Ry, k-points x plane spacing >= (\S+) A shifted, .*", atoms.info["level"])
            assert k_points(atoms, float(found.group(1))) == k_points(atoms, 13.5), (name, atoms.symbols)


def test_raman_tensors_are_compared_by_species_and_along_soft_modes():
    """Slopes along x are a quarter too large, those along y right; a spring of 1 eV/A^2 is soft, one of 50 is not."""
    springs = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.diag([0.5, 25.0, 25.0]))
    cell = Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6] * 3, pbc=True)
    along_x, along_y = np.diag([2.0, 1.0, 1.0]), np.diag([0.0, 3.0, 0.0])
    slopes = np.array([[along_x, along_y, 0 * along_x], [-along_x, -along_y, 0 * along_x]])
    cell.arrays |= {"dalpha_dr_A2": slopes.reshape(2, 27), "hessian_eV_A2": springs.reshape(2, 18)}

    class Model:
        @staticmethod
        def predict(given):
            wrong = slopes * np.array([1.25, 1.0, 1.0])[None, :, None, None]
            return np.array([[[np.einsum("ix,ixab->ab", atoms.positions - cell.positions, wrong)]] for atoms in given])

    rows = evaluation.tensor_response(Model, cell)
    for symbol in ("Na", "Cl"):
        assert rows[symbol]["count"] == 1 and rows[symbol]["size"] == pytest.approx(np.sqrt((6 + 9) / 3))
        assert rows[symbol]["relative_error"] == pytest.approx(0.25 * np.sqrt(6 / 15))
    soft = rows["soft modes"]
    assert soft["count"] == 1 and soft["size"] == pytest.approx(np.sqrt(2 * KB_EV * 600 * 6))
    assert soft["relative_error"] == pytest.approx(0.25) and soft["amplitude"] == pytest.approx(1.25)
