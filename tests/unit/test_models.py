"""Loading of models: what is trusted, what is refused, and that the folders rebuild what was trained."""

import json
import shutil

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ionraman import modelfile, polarizability, potentials
from ionraman.bonds import BondModel
from ionraman.digests import model_sha256
from ionraman.modelfile import ModelError
from ionraman.training.evaluation import change_errors, ion_response, mode_response
from ionraman.training.export import export_force_field
from ionraman.training.fits import labels_of


@pytest.fixture
def salt():
    atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def test_default_json_names_the_shipped_models(root):
    default = json.loads((root / "workflow/models/default.json").read_text())
    for kind, folder in default.items():
        record = json.loads((root / "workflow/models" / folder / "model.json").read_text())
        assert record["kind"] == kind
        assert json.loads((root / "workflow/models" / folder / "card.json").read_text())["licence"]
        assert {"Na", "P", "S", "Cl", "Sb", "W"} == set(record["elements"])


def test_shipped_models_are_small_and_hold_no_pickle(root):
    files = [path for path in (root / "workflow/models").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".svg", ".csv"}


@pytest.mark.parametrize("name", ["force-small", "force-medium", "alpha-small"])
def test_shipped_models_give_the_values_of_the_trained_ones(root, name):
    """reference.json holds predictions of the training checkpoints, made before export."""
    folder = root / "workflow/models" / name
    reference = json.loads((folder / "reference.json").read_text())
    from ase import Atoms

    atoms = Atoms(reference["numbers"], reference["positions_A"], cell=reference["cell_A"], pbc=True)
    if name.startswith("force"):
        atoms.calc = potentials.load(folder).calculator(dtype="float64")
        assert atoms.get_potential_energy() / len(atoms) == pytest.approx(
            reference["energy_eV"] / len(atoms), abs=1e-6
        )
        np.testing.assert_allclose(atoms.get_forces(), reference["forces_eV_A"], atol=1e-6)
    else:
        model = polarizability.load(folder).double()
        np.testing.assert_allclose(model.predict([atoms])[0].sum(axis=1), reference["alpha_A3"], atol=1e-6)


def test_a_round_trip_keeps_energy_and_forces(force_model, salt, tmp_path):
    export_force_field(force_model.module, tmp_path / "copy", {})
    values = []
    for model in (force_model, potentials.load(tmp_path / "copy")):
        salt.calc = model.calculator(dtype="float64")
        values.append((salt.get_potential_energy(), salt.get_forces()))
    assert values[0][0] == pytest.approx(values[1][0], abs=1e-9)
    np.testing.assert_allclose(values[0][1], values[1][1], atol=1e-9)


def test_a_pickle_is_opened_only_if_its_digest_was_stated(force_model, tmp_path, salt):
    file = tmp_path / "own.model"
    torch.save(force_model.module, file)
    with pytest.raises(ModelError, match="runs code"):
        potentials.load(file)
    with pytest.raises(ModelError, match="states 0000"):
        potentials.load(file, "0" * 64)
    salt.calc = potentials.load(file, model_sha256(file)).calculator()
    assert np.isfinite(salt.get_potential_energy())


def test_a_missing_model_says_where_to_put_it(tmp_path):
    with pytest.raises(ModelError, match="put the file there"):
        potentials.load(tmp_path / "absent.model")


def test_a_polarizability_model_is_no_force_field(root):
    with pytest.raises(ModelError, match="no energies"):
        potentials.load(root / "workflow/models/alpha-small")


def test_weights_of_another_architecture_are_refused(root, tmp_path):
    folder = shutil.copytree(root / "workflow/models/force-small", tmp_path / "broken")
    record = json.loads((folder / "model.json").read_text())
    record["arguments"]["num_bessel"] += 1
    (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="cannot be rebuilt"):
        modelfile.load(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said_with_driver_and_build():
    with pytest.raises(potentials.DeviceError, match=r"(?s)Driver: .*CUDA build of torch: .*compute.device"):
        potentials.select_device("cuda")


# Polarizability


@pytest.mark.parametrize("kind", ["shipped", "networks"])
def test_prediction_is_batch_independent(kind, alpha_model, network_model, salt):
    model = {"shipped": alpha_model, "networks": network_model}[kind]
    frames = [salt, salt.repeat((2, 1, 1)), salt]
    together = model.predict(frames, batch_atoms=10_000)
    alone = model.predict(frames, batch_atoms=1)
    np.testing.assert_allclose(together, alone, atol=2e-4)
    flat = model.predict_trajectory(np.array([salt.positions] * 2), salt.cell.array, salt.get_chemical_symbols())
    np.testing.assert_allclose(flat[1], together[0], atol=2e-4)


def test_a_member_is_the_sum_of_its_physical_model_and_of_what_the_mace_calculator_gives(network_model, salt):
    from mace.calculators import MACECalculator

    assert network_model.size == 2
    total = network_model.predict([salt])[0].sum(axis=1)
    constant = sum(network_model.means_A3[symbol] for symbol in salt.get_chemical_symbols()) * np.eye(3)
    for member, network in enumerate(network_model.networks):
        calculator = MACECalculator(
            models=[network], model_type="DipolePolarizabilityMACE", device="cpu", default_dtype="float32"
        )
        tensor = np.asarray(calculator.get_property("polarizability", salt)).reshape(3, 3)
        assert np.abs(tensor).max() > 1e-3
        known = constant + network_model.physical.predict([salt])[0, member]
        np.testing.assert_allclose(total[member], known + network_model.scale_A3 * tensor, rtol=1e-4, atol=1e-4)


def test_a_folder_with_networks_and_models_of_different_number_is_refused(network_model, tmp_path):
    shutil.copytree(network_model.path, tmp_path / "copy")
    (tmp_path / "copy/member_1.safetensors").unlink()
    with pytest.raises(ModelError, match="holds 1 networks and 2 physical models"):
        polarizability.load(tmp_path / "copy")


def test_species_parts_sum_to_a_symmetric_total(alpha_model, salt):
    alpha = alpha_model.predict([salt])
    assert alpha.shape == (1, alpha_model.size, 2, 3, 3)
    total = alpha.sum(axis=2)
    np.testing.assert_allclose(total, np.swapaxes(total, -1, -2), atol=1e-4)


# Of Na3PS4, the isotropic part hardly changes along the direction, and is wrong.
@pytest.mark.parametrize(
    ("material", "part", "limit"),
    [
        ("NaCl", "relative_error", 0.08),
        ("Na2S", "relative_error", 0.25),
        ("Na3PS4", "anisotropic", 0.2),
        ("Na3SbS4", "relative_error", 0.15),
        ("Na5PWS8", "relative_error", 0.25),
    ],
)
def test_the_shipped_model_follows_first_principles_along_a_direction(root, alpha_model, material, part, limit):
    """dalpha/dr by central difference; Na5SbWS8 is worse, workflow/models/README.md says how much."""
    frames = ase.io.read(root / "workflow/data/polarizability_pairs.extxyz", ":")
    up, down = (atoms for atoms in frames if atoms.info["material"] == material)
    (label, _), predicted = labels_of([up, down]), alpha_model.predict([up, down]).sum(axis=2).mean(axis=1)
    assert change_errors(predicted[:1] - predicted[1:], label[:1] - label[1:])[part] < limit


def test_the_shipped_model_follows_single_ions_and_soft_modes(root, alpha_model):
    """Of Na3PS4, in no fit: five ions of 32 atoms, and six modes whose first-order lines carry the intensity below 90 cm^-1."""
    (ions,) = ion_response(alpha_model, ase.io.read(root / "workflow/data/polarizability_ions.extxyz", ":")).values()
    assert ions["ions"] == 5 and ions["relative_error"] < 0.25
    (modes,) = mode_response(alpha_model, ase.io.read(root / "workflow/data/polarizability_modes.extxyz", ":")).values()
    assert modes["modes"] == 6 and modes["tensor_error"] < 0.25 and abs(modes["relative_error"]) < 0.25


def test_wrapping_atoms_changes_nothing(alpha_model, salt):
    moved = salt.copy()
    moved.positions[2] += 3 * salt.cell.array[1] - salt.cell.array[0]
    alpha = alpha_model.predict([salt, moved])
    np.testing.assert_allclose(alpha[0], alpha[1], atol=2e-4)


def test_an_element_that_is_not_covered_is_named(alpha_model):
    with pytest.raises(ModelError, match="does not cover K"):
        alpha_model.predict([bulk("KCl", "rocksalt", 6.3)])


def test_a_network_that_is_not_equivariant_is_refused(network_model, monkeypatch):
    original = polarizability._atomic_tensors

    def skewed(member, data):
        spherical = original(member, data)
        return torch.cat([spherical[:, :5], 1.5 * spherical[:, 5:]], dim=1)

    monkeypatch.setattr(polarizability, "_atomic_tensors", skewed)
    with pytest.raises(ModelError, match="check of rotation"):
        polarizability.load(network_model.path)


def test_a_physical_model_that_is_not_equivariant_is_refused(root, monkeypatch):
    original = BondModel.atomic

    def skewed(self, around):
        tensors = original(self, around)
        return torch.cat([1.01 * tensors[..., :1], tensors[..., 1:]], dim=-1)

    monkeypatch.setattr(BondModel, "atomic", skewed)
    with pytest.raises(ModelError, match="check of rotation"):
        polarizability.load(root / "workflow/models/alpha-small")


def test_a_single_member_is_no_ensemble(root, tmp_path):
    folder = shutil.copytree(root / "workflow/models/alpha-small", tmp_path / "single")
    record = json.loads((folder / "model.json").read_text())
    del record["physical"]["parameters_A3"][1:]
    (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="at least two"):
        polarizability.load(folder)


def test_a_batch_that_does_not_fit_is_halved(alpha_model, salt, monkeypatch):
    from ionraman import inference

    sizes, predict = [], type(alpha_model).predict_trajectory

    def small_memory(self, positions, cell, species, batch_atoms):
        sizes.append(batch_atoms)
        if batch_atoms > 100:
            raise torch.OutOfMemoryError("out of memory")
        return predict(self, positions, cell, species, batch_atoms)

    monkeypatch.setattr(type(alpha_model), "predict_trajectory", small_memory)
    frames, species = np.array([salt.positions] * 3), salt.get_chemical_symbols()
    alpha = inference._within_memory(alpha_model, frames, salt.cell.array, species, 512)
    assert sizes == [512, 256, 128, 64] and len(alpha) == 3
