"""The lean convolution gives energies, forces, stresses and polarizabilities of MACE's own."""

import copy

import mace  # noqa: F401  (before e3nn)
import numpy as np
import pytest
import torch
from ase.build import bulk
from e3nn import o3
from ionraman import polarizability
from ionraman.convolution import ScalarConvolution, fuse
from mace import modules
from mace.calculators import MACECalculator


def network(hidden: str, max_ell: int, first: str = "RealAgnosticResidualInteractionBlock"):
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    try:
        return modules.ScaleShiftMACE(
            r_max=4.5, num_bessel=6, num_polynomial_cutoff=5, max_ell=max_ell, num_interactions=2,
            interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=modules.interaction_classes[first], num_elements=2,
            hidden_irreps=o3.Irreps(hidden), MLP_irreps=o3.Irreps("8x0e"), gate=torch.nn.functional.silu,
            atomic_energies=np.array([-1.0, -2.0]), avg_num_neighbors=12.0, atomic_numbers=[11, 17], correlation=2,
            radial_MLP=[16, 16], atomic_inter_scale=1.3, atomic_inter_shift=0.1,
        ).eval()  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("hidden", "max_ell", "first", "replaced"),
    [
        ("8x0e", 1, "RealAgnosticResidualInteractionBlock", 2),
        ("8x0e", 3, "RealAgnosticInteractionBlock", 2),
        ("8x0e+8x1o", 2, "RealAgnosticResidualInteractionBlock", 1),  # the second layer carries vectors
    ],
)
def test_energy_forces_and_stress_are_those_of_mace(hidden, max_ell, first, replaced):
    model = network(hidden, max_ell, first)
    lean = fuse(copy.deepcopy(model))
    assert sum(isinstance(i.conv_tp, ScalarConvolution) for i in lean.interactions) == replaced
    atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms.rattle(0.2, seed=2)
    lonely = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    lonely.set_cell([30, 30, 30])  # atoms with few neighbours, and one with none
    lonely.positions[0] += 12
    for cell in (atoms, lonely, atoms.repeat((2, 1, 1))):
        found = []
        for one in (model, lean):
            cell.calc = MACECalculator(models=[one], device="cpu", default_dtype="float64")
            found.append((cell.get_potential_energy(), cell.get_forces(), cell.get_stress()))
        assert np.abs(found[0][1]).max() > 1e-3
        for reference, value in zip(*found, strict=True):
            np.testing.assert_allclose(value, reference, rtol=1e-6, atol=2e-9)


def test_polarizability_is_that_of_mace(network_model, monkeypatch):
    atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms.rattle(0.1, seed=4)
    monkeypatch.setattr(polarizability, "fuse", lambda member: member)
    plain = polarizability.load(network_model.path)
    assert isinstance(network_model.networks[0].interactions[0].conv_tp, ScalarConvolution)
    assert not isinstance(plain.networks[0].interactions[0].conv_tp, ScalarConvolution)
    np.testing.assert_allclose(network_model.predict([atoms]), plain.predict([atoms]), atol=2e-5)
