"""The physical model of the polarizability against closed forms, symmetries, and labels made with known parameters."""

import dataclasses
import math

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ionraman import polarizability
from ionraman.bonds import REACH_A, BondModel
from ionraman.dipoles import DAMPING_A, EXACTNESS, DipoleFields
from ionraman.modelfile import ModelError
from ionraman.neighbours import pairs_within
from ionraman.training import physical
from ionraman.training import polarizability as dielectric
from ionraman.training.fits import Fit, load_members
from ionraman.training.forcefield import FitFailed
from ionraman.training.record import Record
from ionraman.training.settings import AlphaFit, Training
from ionraman.units import KB_EV


def disordered(seed: int = 1) -> Atoms:
    """Rock salt of eight atoms in a triclinic cell, displaced."""
    ideal = bulk("NaCl", "rocksalt", 5.7, cubic=True)
    ideal.set_cell(ideal.cell.array @ (np.eye(3) + [[0.02, 0.03, 0], [0, -0.01, 0.02], [0, 0, 0.01]]), scale_atoms=True)
    ideal.rattle(0.15, seed=seed)
    return ideal


def any_parameters(model: BondModel, seed: int) -> BondModel:
    sizes = np.where(np.arange(model.size) < len(model.columns), 0.1, 0.02)
    model.parameters = (physical.prior(model) + sizes * np.random.default_rng(seed).normal(size=model.size))[None]
    return model


def deviations(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(count, 0.2), np.full(count, 0.4)


def fields(cells: list[Atoms], reach: float = REACH_A, exactness: float = EXACTNESS) -> torch.Tensor:
    """(3 sites, 3 sites) of all sites of all cells."""
    positions = torch.as_tensor(np.concatenate([atoms.get_positions(wrap=True) for atoms in cells]))
    graph = torch.as_tensor(np.repeat(np.arange(len(cells)), [len(atoms) for atoms in cells]))
    cell = np.array([atoms.cell.array for atoms in cells])
    pairs, _, shifts = pairs_within(positions, torch.as_tensor(cell), graph, reach)
    vectors = positions[pairs[1]] - positions[pairs[0]] + shifts
    found = DipoleFields(positions, graph, cell, pairs, vectors, reach, exactness)
    size = 3 * len(positions)
    return found.of(torch.eye(size, dtype=torch.float64).reshape(-1, 3, size)).reshape(size, size)


def test_field_in_a_cubic_lattice_is_that_of_lorentz():
    lattice = Atoms("Cl", cell=9.0 * np.eye(3), pbc=True)  # of spacing far beyond the damping
    np.testing.assert_allclose(fields([lattice], exactness=5), 4 * np.pi / 3 / 9.0**3 * np.eye(3), atol=1e-9)


@pytest.mark.parametrize("distance", [1.5, 3.0, 4.0])
def test_field_of_a_dipole_nearby_is_damped_as_thole_has_it(distance):
    axis = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)
    pair = Atoms("Cl2", [[0, 0, 0], distance * axis], cell=24.0 * np.eye(3), pbc=True)
    cube = (distance / DAMPING_A) ** 3
    expected = 3 * np.outer(axis, axis) * (1 - (1 + cube) * np.exp(-cube)) - np.eye(3) * (1 - np.exp(-cube))
    # The images of the far lattice give Lorentz's field; what they leave grows as r^2/L^5.
    found = fields([pair], exactness=5)[3:, :3] - 4 * np.pi / 3 / 24.0**3 * np.eye(3)
    np.testing.assert_allclose(found, expected / distance**3, atol=5e-5)


def test_fields_do_not_depend_on_how_the_sum_is_split_nor_on_what_else_is_in_the_batch():
    one, other = disordered(1), disordered(2).repeat((2, 1, 1))
    alone, together = fields([one]), fields([one, other])
    np.testing.assert_allclose(together[:24, :24], alone, atol=1e-12)
    np.testing.assert_allclose(together[24:, 24:], fields([other]), atol=1e-12)
    assert not together[:24, 24:].any()
    exact = fields([one], reach=9.0, exactness=5)
    np.testing.assert_allclose(fields([one], reach=10.0, exactness=5), exact, atol=1e-8)
    np.testing.assert_allclose(alone, exact, atol=1e-4)
    np.testing.assert_allclose(alone, alone.T, atol=1e-12)


def test_fields_of_a_cell_and_of_its_supercell_agree():
    small = disordered()
    large = fields([small.repeat((2, 1, 1))])
    np.testing.assert_allclose(large[:24, :24] + large[:24, 24:], fields([small]), atol=1e-9)


def test_a_lattice_of_points_follows_clausius_and_mossotti():
    lattice = Atoms("Cl", cell=10 * np.eye(3), pbc=True)  # far beyond the pair terms and the damping
    model = BondModel(["Cl"], {}, set(), np.array([[4.0]]))
    x = 4 * np.pi / 3 * 4.0 / 1000
    np.testing.assert_allclose(model.predict([lattice])[0, 0], 4.0 * (1 + x + x**2) * np.eye(3), atol=2e-4)


def test_polarizability_turns_with_the_crystal_and_is_extensive():
    atoms = disordered()
    model = any_parameters(physical.terms_of([atoms]), 2)
    reference = model.predict([atoms])[0, 0]
    assert np.abs(reference - np.trace(reference) / 3 * np.eye(3)).max() > 0.04
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = Atoms(atoms.numbers, atoms.positions @ rotation.T, cell=atoms.cell.array @ rotation.T, pbc=True)
    np.testing.assert_allclose(model.predict([turned])[0, 0], rotation @ reference @ rotation.T, atol=1e-6)
    np.testing.assert_allclose(model.predict([atoms.repeat((1, 2, 1))])[0, 0], 2 * reference, atol=1e-5)
    np.testing.assert_allclose(reference, reference.T, atol=1e-9)


def test_what_is_fitted_is_what_runs_and_its_slopes_are_those_of_finite_differences():
    frames = [disordered(1), disordered(2).repeat((1, 1, 2)), disordered(3)]
    model = any_parameters(physical.terms_of(frames), 5)
    assert model.products, "densities of Na and Cl around Cl"
    predicted, (parameters,) = model.predict(frames)[:, 0], model.parameters
    for design in physical.designs(model, frames):
        value, slopes = physical.evaluate(parameters, design, slopes=True)
        np.testing.assert_allclose(value, predicted[design.frames], atol=1e-9)
        for k in range(len(parameters)):
            step = 1e-4 * (np.arange(len(parameters)) == k)
            up, down = (physical.evaluate(parameters + sign * step, design)[0] for sign in (1, -1))
            np.testing.assert_allclose(slopes[:, k], (up - down) / 2e-4, atol=1e-5)


def test_a_fit_predicts_frames_that_it_did_not_see():
    frames = [disordered(seed) for seed in range(24)]
    alpha = any_parameters(physical.terms_of(frames), 6).predict(frames)[:, 0]
    fitted = physical.fit(frames[:20], alpha[:20], deviations(20), ridge=1e-8)
    spread = np.sqrt(((alpha - alpha.mean(axis=0)) ** 2).mean())
    assert np.sqrt(((fitted.predict(frames[20:])[:, 0] - alpha[20:]) ** 2).mean()) < 0.1 * spread


def labelled_salt(count: int) -> tuple[list[Atoms], np.ndarray, BondModel]:
    """Cells of one material, their polarizabilities, and the model that made these."""
    frames = [disordered(seed) for seed in range(count)]
    for atoms in frames:
        atoms.info["material"] = "salt"
    truth = any_parameters(physical.terms_of(frames), 6)
    return frames, truth.predict(frames)[:, 0], truth


def with_tensors(model: BondModel, atoms: Atoms, factor: float) -> Atoms:
    """The cell with its Raman tensors and epsilon, from a level of theory at which it is so many times as polarizable."""
    sides, alpha = model.predict(physical.displaced(atoms))[:, 0], model.predict([atoms])[0, 0]
    found = atoms.copy()
    found.info |= {"material": "salt", "epsilon": np.eye(3) + factor * 4 * np.pi * alpha / atoms.get_volume()}
    found.arrays["dalpha_dr_A2"] = factor * ((sides[::2] - sides[1::2]) / (2 * physical.STEP_A)).reshape(len(atoms), 27)
    found.arrays["hessian_eV_A2"] = 2.0 * np.eye(3 * len(atoms)).reshape(len(atoms), -1)
    return found


def test_thermal_modes_are_those_of_a_harmonic_crystal():
    """Two ions on a spring of 4 eV/A^2 along x, of -0.5 along y, none along z: <u^2> = kT/k of the relative displacement."""
    springs = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.diag([4.0, -0.5, 0.0]))
    atoms = Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6] * 3, pbc=True)
    atoms.arrays["hessian_eV_A2"] = springs.reshape(2, 18)
    modes = physical.thermal_modes(atoms)
    apart = ((modes[:3] - modes[3:]) ** 2).sum(axis=1)
    kT = KB_EV * physical.USUAL_K
    np.testing.assert_allclose(apart, [kT / 4.0, kT / 0.5, 2 * physical.FARTHEST_A**2], rtol=1e-9)


def test_the_softer_direction_is_met_better():
    """Slopes along x that contradict the labels spoil those along y and z less where x is stiff."""
    frames, alpha, truth = labelled_salt(6)
    tensors = with_tensors(truth, frames[0], 1.0)
    right = tensors.arrays["dalpha_dr_A2"].reshape(-1, 3, 3).copy()
    wrong = right.copy()
    wrong[::3] *= 2.0  # x of each ion
    errors = []
    for stiff in (1.0, 100.0):
        tensors.arrays["dalpha_dr_A2"] = wrong.reshape(len(frames[0]), 27)
        tensors.arrays["hessian_eV_A2"] = np.diag(np.tile([stiff, 1.0, 1.0], len(frames[0]))).reshape(len(frames[0]), -1)
        fitted = physical.fit(frames, alpha, deviations(6), ridge=1e-3, terms=physical.terms_of(frames), tensors=[tensors])
        sides = fitted.predict(physical.displaced(frames[0]))[:, 0]
        slope = (sides[::2] - sides[1::2]) / (2 * physical.STEP_A)
        errors.append(np.linalg.norm((slope - right).reshape(-1, 3, 9)[:, 1:]))
    assert errors[1] < 0.7 * errors[0]


def test_raman_tensors_of_one_cell_are_worth_many_labels():
    frames, alpha, truth = labelled_salt(24)
    tensors = [with_tensors(truth, frames[0], 1.1), with_tensors(truth, frames[1], 1.1)]
    tensors.append(with_tensors(truth, frames[2], 1.0))
    tensors[-1].info["material"] = "of another crystal, without labels"

    def error(count: int, tensors: list[Atoms]) -> float:
        fitted = physical.fit(frames[:count], alpha[:count], deviations(count), ridge=1e-6, terms=physical.terms_of(frames), tensors=tensors)
        return float(np.sqrt(((fitted.predict(frames[16:])[:, 0] - alpha[16:]) ** 2).mean()))

    assert error(6, tensors) < 0.5 * error(6, []) and error(6, tensors) < error(16, [])
    assert len(physical.followed(truth, tensors, frames, alpha, deviations(24))) == 2


def test_a_hot_frame_counts_less_than_a_cold_one():
    """One cell with two labels: the fit lies between them, by weights that go as temperature to the power -2."""
    cold, hot = disordered(1), disordered(1)
    cold.info["temperature_K"], hot.info["temperature_K"] = 300.0, 900.0
    low = any_parameters(physical.terms_of([cold]), 6).predict([cold])[0, 0]
    high = low + 0.02 * np.eye(3)
    fitted = physical.fit([cold, hot], np.array([low, high]), deviations(2), ridge=1e-10).predict([cold])[0, 0]
    assert np.trace(fitted - low) / 3 == pytest.approx(0.02 * (1 / 9) / (1 + 1 / 9), rel=0.02)


def test_bonds_of_real_cells_are_those_of_the_chemist(root):
    frames = ase.io.read(root / "workflow/data/polarizability_doped.extxyz", ":")
    model = physical.terms_of(frames)
    assert model.bonded >= {("S", "P"), ("S", "Sb"), ("S", "W")} and model.anions == ["S"]
    assert model.pairs["S", "P"] == pytest.approx(2.05, abs=0.1)


def test_frames_without_an_anion_say_nothing_and_spoil_nothing():
    hydride = bulk("NaH", "rocksalt", 4.9, cubic=True)
    frames = [disordered(1), hydride, disordered(2), disordered(3)]
    alpha = any_parameters(physical.terms_of(frames), 8).predict(frames)[:, 0]
    assert not alpha[1].any()
    assert not physical.fit(frames, alpha, deviations(4)).predict(frames)[1].any()
    assert not physical.fit([hydride] * 4, np.ones((4, 3, 3)), deviations(4)).predict([hydride]).any()


def test_a_bond_to_a_dilute_centre_is_one(root):
    frames = ase.io.read(root / "workflow/data/polarizability_doped.extxyz", ":")
    cell = next(atoms for atoms in frames if "W" in atoms.symbols and "P" in atoms.symbols)
    large = cell.repeat((2, 2, 1))
    centres = [atom.index for atom in large if atom.symbol == "W"]
    large.symbols[centres[1:]] = "P"
    model = physical.terms_of([large])
    assert ("S", "W") in model.bonded and model.pairs["S", "W"] == pytest.approx(2.2, abs=0.1)


def test_a_model_of_another_form_is_refused():
    record = physical.terms_of([disordered()]).record()
    assert BondModel.from_record(record).columns == physical.terms_of([disordered()]).columns
    with pytest.raises(ModelError, match="Train the model again"):
        BondModel.from_record(record | {"form": 0})


def test_sets_of_parameters_are_models_of_their_own():
    frames = [disordered(seed) for seed in range(2)]
    one, two = (any_parameters(physical.terms_of(frames), seed) for seed in (1, 2))
    both = dataclasses.replace(one, parameters=np.concatenate([one.parameters, two.parameters]))
    np.testing.assert_allclose(both.predict(frames), np.concatenate([one.predict(frames), two.predict(frames)], axis=1), atol=1e-12)


def test_each_trajectory_is_unseen_by_one_member():
    frames = []
    for material, run in [("salt", f"s{k}") for k in range(7)] + [("sulfide", f"x{k}") for k in range(3)] + [("lone", "l")]:
        for _ in range(2):
            frames.append(disordered())
            frames[-1].info |= {"material": material, "run": run}
    unseen = np.array([dielectric.left_out(frames, member, 3) for member in range(3)])
    assert (unseen[:, :20].sum(axis=0) == 1).all() and not unseen[:, 20:].any(), "nothing is left out of one trajectory"
    assert (unseen[:, ::2] == unseen[:, 1::2]).all(), "never one frame of a trajectory"
    for own in (slice(0, 14), slice(14, 20)):
        assert unseen[:, own].any(axis=1).all(), "every member misses some of every material"
    assert not dielectric.left_out(frames, 0, 1).any()


def test_an_ensemble_adds_networks_to_the_models_and_books_both_on_their_species(tmp_path):
    frames = [disordered(seed) for seed in range(6)]
    for number, atoms in enumerate(frames):
        atoms.info |= {"material": "salt", "run": str(number)}
    alpha = any_parameters(physical.terms_of(frames), 7).predict(frames)[:, 0]
    parts = [dielectric.Standard.of(frames, alpha, deviations(6), AlphaFit(), dielectric.left_out(frames, k, 2)) for k in range(2)]
    standard = dielectric.Standard.joined(parts)
    shape = dielectric.Architecture(channels=2, r_max=4.0, radial=4)
    members = [shape.member([11, 17], 0.04) for _ in range(2)]
    ensemble = standard.model(members)
    networks = dataclasses.replace(ensemble, physical=None)
    both, rest = (model.predict(frames, batch_atoms=20) for model in (ensemble, networks))
    below = standard.physical.predict(frames)
    assert np.abs(below[:, 0] - below[:, 1]).max() > 1e-3, "fitted to different trajectories"
    np.testing.assert_allclose((both - rest).sum(axis=2), below, atol=2e-5)
    np.testing.assert_allclose(both[:, :, 0], rest[:, :, 0], atol=1e-6)  # Na: nothing of the model

    dielectric.export(tmp_path / "model", members, [11, 17], shape, standard, 0.04, {})
    loaded = polarizability.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict(frames), both, atol=2e-5)


def test_an_ensemble_without_networks_is_fitted_exported_and_read(tmp_path):
    frames = [disordered(seed) for seed in range(8)]
    alpha = any_parameters(physical.terms_of(frames), 9).predict(frames)[:, 0]
    for number, (atoms, tensor) in enumerate(zip(frames, alpha, strict=True)):
        atoms.info |= {"material": "salt", "run": str(number), "split": "train", "alpha_A3": tensor.ravel()}
    ase.io.write(tmp_path / "alpha.extxyz", frames)
    training = Training(
        name="salt", licence="CC0-1.0", materials=[{"name": "salt", "candidate": "NaCl"}], alpha={"members": 2, "networks": False}
    )
    record = Record(training, {}, {"force": {}, "alpha": {}})
    files = [
        Fit("alpha", tmp_path / "alpha.extxyz", tmp_path / "fits", 1, member, "cpu", tmp_path).go_on(record, math.inf, print)
        for member in range(2)
    ]
    networks, numbers, standard, density = load_members(files, training.alpha)
    assert networks == [] and numbers == [11, 17] and standard.physical.parameters.shape == (2, standard.physical.size)
    dielectric.export(tmp_path / "model", [], numbers, dielectric.Architecture(), standard, density, {})
    loaded = polarizability.load(tmp_path / "model")
    assert loaded.size == 2 and not list((tmp_path / "model").glob("*.safetensors"))
    predicted = loaded.predict(frames).sum(axis=2)
    np.testing.assert_allclose(predicted, standard.physical.predict(frames), atol=1e-4)
    for member in range(2):
        error = np.abs(predicted[:, member] - alpha).max(axis=(1, 2))
        seen = ~dielectric.left_out(frames, member, 2)
        assert error[seen].max() < 0.3 * error[~seen].max(), "what a member is not fitted to it knows less well"


def test_raman_tensors_decide_a_fit_unless_their_trajectory_is_held_out(tmp_path):
    frames = [disordered(seed) for seed in range(4)]
    truth = any_parameters(physical.terms_of(frames), 9)
    for number, (atoms, tensor) in enumerate(zip(frames, truth.predict(frames)[:, 0], strict=True)):
        atoms.info |= {"material": "salt", "run": str(number), "split": "test" if number == 3 else "train", "alpha_A3": tensor.ravel()}
    ase.io.write(tmp_path / "alpha.extxyz", frames)

    def parameters(*tensors: Atoms) -> list:
        if tensors:
            ase.io.write(tmp_path / "tensors.extxyz", list(tensors))
        alpha = {"members": 2, "networks": False, "tensors": ["tensors.extxyz"] if tensors else []}
        training = Training(name="salt", licence="CC0-1.0", materials=[{"name": "salt", "candidate": "NaCl"}], alpha=alpha)
        run = Fit("alpha", tmp_path / "alpha.extxyz", tmp_path / "fits", 1, 0, "cpu", tmp_path)
        file = run.go_on(Record(training, {}, {"force": {}, "alpha": {}}), math.inf, print)
        return load_members([file], training.alpha)[2].physical.parameters.tolist()

    found = {run: with_tensors(truth, frames[3], 1.0) for run in ("3", "elsewhere")}
    for run, atoms in found.items():
        atoms.info["run"] = run
    assert parameters(found["3"]) == parameters() != parameters(found["elsewhere"])
    hessian = found["3"].arrays.pop("hessian_eV_A2")
    with pytest.raises(FitFailed, match=r"tensors.extxyz\[0\]: found an array hessian_eV_A2 of shape \(0,\)"):
        parameters(found["3"])
    found["3"].arrays["hessian_eV_A2"] = hessian
    del found["3"].info["epsilon"]
    with pytest.raises(FitFailed, match=r"tensors.extxyz\[0\]: found no epsilon in its info"):
        parameters(found["3"])


def test_an_ensemble_of_nothing_is_refused():
    with pytest.raises(ValueError, match="physical and networks both off"):
        AlphaFit(physical=False, networks=False)
