"""Simulation cells: all shipped rows, carriers, ordering, and one sentence for each broken file."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from ionraman.candidates import read_table
from ionraman.charges import formal_states
from ionraman.disorder import Disorder, ImpossibleOrdering, arrange, whole_numbers
from ionraman.settings import Settings
from ionraman.structures import StructureInvalid, build

ROOT = Path(__file__).parents[2]
STRUCTURES = ROOT / "config/structures"
ROWS, _ = read_table(ROOT / "config/candidates.tsv", "config/candidates.tsv", Settings())

# Rows whose images come closer than 11 A in 64 atoms; in 200 atoms, beta-alumina alone.
CROWDED = {
    "Na2.25Y0.25Zr0.75Cl6_P21n", "Na2B12H12_Pm-3n", "Na2SO4_V", "Na3AlF6_alpha", "Na3AlF6_beta_cub",
    "Na3YCl6_P21n", "Na3Zr2Si2PO12_R-3c", "Na4Zr2Si3O12_R-3c", "NaAl11O17_beta", "NaBH4_cub",
    "NaBH4_cub_ordF-43m", "NaZr2P3O12_R-3c",
}  # fmt: skip


def made(name, carriers="", *, max_atoms=64, seed=1, **more):
    options = {"mobile": "Na", "min_image_A": 11.0} | more
    return build(STRUCTURES / f"{name}.cif", carriers=carriers, max_atoms=max_atoms, seed=seed, **options)


def refused(file, carriers="", **more):
    options = {"mobile": "Na", "min_image_A": 5.0, "max_atoms": 64, "seed": 1} | more
    with pytest.raises(StructureInvalid) as error:
        build(file, carriers=carriers, **options)
    reason = str(error.value)
    assert reason.endswith(".") and "\n" not in reason
    return reason


@pytest.mark.parametrize("max_atoms", [64, 200])
@pytest.mark.parametrize("candidate", ROWS, ids=lambda candidate: candidate.name)
def test_every_row_of_the_table_builds(candidate, max_atoms):
    built = build(
        ROOT / "config" / candidate.structure,
        mobile=candidate.mobile,
        carriers=candidate.carriers,
        min_image_A=11,
        max_atoms=max_atoms,
        seed=1,
    )
    record, atoms = built.record, built.atoms
    assert record["n_atoms"] == len(atoms) <= max_atoms
    assert record["net_charge_e"] == 0
    assert record["n_mobile"] == (atoms.numbers == 11).sum() > 0
    crowded = candidate.name in CROWDED if max_atoms == 64 else candidate.name == "NaAl11O17_beta"
    assert record["image_distance_met"] is not crowded
    assert (record["shortest_image_A"] >= 11) is not crowded
    assert np.linalg.det(atoms.cell) == pytest.approx(record["volume_A3"])
    if "demo" in candidate.tags:
        assert 62 <= len(atoms) <= 64


def test_doped_demo_row():
    record = made("Na3SbS4_cub", "Sb->W 0.125; Na-vacancy 0.125").record
    assert record["formula"] == "Na23Sb7WS32"
    assert record["formula_units"] == 8
    assert record["carriers_realised"] == {"Sb->W": 1, "Na-vacancy": 1}
    assert record["carriers_per_formula_unit"] == {"Sb->W": 0.125, "Na-vacancy": 0.125}
    assert record["supercell_matrix"] == [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]
    assert record["shortest_image_A"] == pytest.approx(12.4188, abs=1e-4)
    assert record["oxidation_states"] == {"Na": 1, "S": -2, "Sb": 5, "W": 6}


def test_geometry_of_the_crystal_is_kept():
    atoms = made("Na3SbS4_cub").atoms
    first, distance = neighbor_list("id", atoms, {("Sb", "S"): 2.8})
    bonds = Counter(first[atoms.numbers[first] == 51].tolist())
    assert len(bonds) == 8 and set(bonds.values()) == {4}
    assert distance == pytest.approx(0.187 * 3**0.5 * 7.17, abs=1e-4)


def test_carriers_are_nearest_integers_at_least_one():
    allowed = {"allow_charged": True}
    assert made("Na3SbS4_cub", "Na-vacancy 0.001", **allowed).record["carriers_realised"] == {"Na-vacancy": 1}
    assert made("Na3SbS4_cub", "Na-vacancy 0.30", **allowed).record["carriers_realised"] == {"Na-vacancy": 2}
    record = made("Na3SbS4_cub", "Na-vacancy 0.32", **allowed).record
    assert record["carriers_realised"] == {"Na-vacancy": 3}
    assert record["net_charge_e"] == -3
    assert record["n_atoms"] == 61


def test_seed_decides_the_sites_and_nothing_else():
    def places(seed):
        atoms = made("Na3SbS4_cub", "Sb->W 0.125; Na-vacancy 0.125", seed=seed).atoms
        return atoms.get_chemical_symbols(), np.round(atoms.positions, 6).tolist()

    assert places(3) == places(3)
    assert len({str(places(seed)) for seed in range(6)}) > 2
    for seed in range(6):
        assert Counter(places(seed)[0]) == {"Na": 23, "Sb": 7, "W": 1, "S": 32}


def test_charged_recipe():
    reason = refused(STRUCTURES / "Na3SbS4_cub.cif", "Sb->W 0.125", min_image_A=11.0)
    assert "Na24Sb7WS32 has a net formal charge of +1 e" in reason and "allow_charged" in reason
    assert made("Na3SbS4_cub", "Sb->W 0.125", allow_charged=True).record["net_charge_e"] == 1


def test_dopant_that_is_also_in_the_compound_keeps_its_state():
    record = made("Na2SO4_V", "O->S 0.125", allow_charged=True).record
    assert record["oxidation_states"]["S"] == 6
    assert record["net_charge_e"] == 8


@pytest.mark.parametrize(
    "carriers, expected",
    [
        ("Sb->W 2", "needs 16 Sb, but the cell of 8 formula units has 8"),
        ("P->W 0.1", "needs 1 P, but the cell of 8 formula units has 0"),
        ("Sb->W 0.6; Sb->Ta 0.6", "Sb->Ta 0.6 per formula unit needs 5 Sb, but"),
        ("Na-vacancy 3", "leave no Na"),
    ],
)
def test_impossible_recipe(carriers, expected):
    assert expected in refused(STRUCTURES / "Na3SbS4_cub.cif", carriers, min_image_A=11.0, allow_charged=True)


def test_primitive_cell_where_the_files_is_too_large():
    record = made("Na4Zr2Si3O12_R-3c").record
    assert record["parent_cell"] == "primitive" and record["n_atoms"] == 42
    assert record["image_distance_met"] is False
    reason = refused(STRUCTURES / "Na4Zr2Si3O12_R-3c.cif", max_atoms=41)
    assert "holds 42 atoms, more than the 41" in reason


def test_partial_occupancies_become_whole_and_neutral():
    record = made("Na2.88Sb0.88W0.12S4_cub").record
    assert record["occupancies_realised"] == {"Na 0.96": 23, "Sb 0.88": 7, "W 0.12": 1}
    # 12 Cl of an odd number of cells: 0.25 Y and 0.75 Zr round apart, and Na follows the charge.
    record = made("Na2.25Y0.25Zr0.75Cl6_P21n", max_atoms=20, min_image_A=7.0).record
    assert record["formula"] == "Na5YZrCl12"
    assert record["net_charge_e"] == 0


def test_disordered_borohydride_gives_four_hydrogen_each():
    for seed in range(3):
        atoms = made("NaBH4_cub", seed=seed).atoms
        boron, distance = neighbor_list("id", atoms, {("B", "H"): 1.4})
        assert set(Counter(boron[atoms.numbers[boron] == 5].tolist()).values()) == {4}


def test_whole_numbers():
    states = {"Na": Fraction(1), "Y": Fraction(3), "Zr": Fraction(4)}
    groups = [Disorder(np.arange(6), {"Y": 0.25, "Zr": 0.75}), Disorder(np.arange(6, 24), {"Na": 0.75})]
    # 1.5 Y and 4.5 Zr: 1 + 5 with 13 Na and 2 + 4 with 14 Na are both neutral and equally near.
    counts = whole_numbers(groups, states, Fraction(-36))
    assert counts in ([{"Y": 1, "Zr": 5}, {"Na": 13}], [{"Y": 2, "Zr": 4}, {"Na": 14}])
    assert whole_numbers([Disorder(np.arange(8), {"Sb": 0.99, "W": 0.01})], None, Fraction(0)) == [
        {"Sb": 7, "W": 1}
    ]
    assert whole_numbers([Disorder(np.arange(12), {"Na": 0.667})], None, Fraction(0)) == [{"Na": 8}]
    with pytest.raises(ImpossibleOrdering, match="1 sites cannot hold 0.5 Sb, 0.5 W"):
        whole_numbers([Disorder(np.arange(1), {"Sb": 0.5, "W": 0.5})], None, Fraction(0))


def test_split_sites_are_not_both_filled():
    lattice = 12.0 * np.eye(3)
    centres = np.array([[x, y, 0.5] for x in (0.25, 0.75) for y in (0.25, 0.75)])
    fractional = np.concatenate([centres, centres + [0.05, 0, 0], centres * [1, 1, 0]])
    symbols = np.array([""] * 8 + ["Cl"] * 4, dtype=object)
    for seed in range(5):
        filled = arrange(
            lattice, fractional, symbols, [Disorder(np.arange(8), {"Na": 0.5})], [{"Na": 4}],
            {"Na": Fraction(1), "Cl": Fraction(-1)}, np.random.default_rng(seed),
        )  # fmt: skip
        assert [(filled[i] == "Na") + (filled[i + 4] == "Na") for i in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "composition, expected",
    [
        ({"Na": 3, "Sb": 1, "S": 4}, {"Na": 1, "Sb": 5, "S": -2}),
        ({"Na": 16, "S": 8, "O": 32}, {"Na": 1, "S": 6, "O": -2}),
        ({"Na": 1, "B": 1, "H": 4}, {"Na": 1, "B": 3, "H": -1}),
        ({"Na": 2, "B": 12, "H": 12}, {"Na": 1, "B": Fraction(5, 6), "H": -1}),
        ({"Na": 12.006, "Zr": 4, "Si": 4, "P": 2, "O": 24}, None),
        ({"Na": 23, "Sb": 8, "S": 32}, {"Na": 1, "Sb": 5, "S": -2}),
        ({"Fe": 2, "O": 3}, {"Fe": 3, "O": -2}),
        ({"Na": 1, "Xe": 1}, None),
    ],
)
def test_formal_states(composition, expected):
    found = formal_states(composition)
    if "Zr" in composition:  # 6 Na would be neutral: the charge of a cell with too many shows
        assert found == {"Na": 1, "Zr": 4, "Si": 4, "P": 5, "O": -2}
    else:
        assert found == expected


POSCAR = """NaCl
1.0
5.64 0 0
0 5.64 0
0 0 5.64
{symbols}4 4
Direct
0 0 0
0.5 0.5 0
0.5 0 0.5
0 0.5 0.5
0.5 0 0
0 0.5 0
0 0 0.5
{last}
"""


def poscar(folder, symbols="Na Cl\n", last="0.5 0.5 0.5"):
    file = folder / "POSCAR_salt"
    file.write_text(POSCAR.format(symbols=symbols, last=last))
    return file


def test_poscar(tmp_path):
    record = build(poscar(tmp_path), mobile="Na", min_image_A=11, max_atoms=64, seed=1).record
    assert (record["formula"], record["n_atoms"], record["net_charge_e"]) == ("NaCl", 64, 0)


def test_left_handed_cell(tmp_path):
    file = poscar(tmp_path)
    file.write_text(file.read_text().replace("0 0 5.64", "0 0 -5.64"))
    built = build(file, mobile="Na", min_image_A=11, max_atoms=64, seed=1)
    assert built.record["n_atoms"] == 64
    assert np.linalg.det(built.atoms.cell) > 0
    assert built.atoms.get_all_distances(mic=True)[np.triu_indices(64, 1)].min() == pytest.approx(2.82)


def test_structure_without_the_mobile_species():
    assert (
        refused(STRUCTURES / "NaCl.cif", mobile="Li")
        == "NaCl.cif holds no Li, the mobile species; it holds Cl, Na."
    )


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"symbols": ""}, "cannot be read as a POSCAR file: Elements in POSCAR cannot be determined."),
        ({"last": "0.5 x 0.5"}, "cannot be read as a POSCAR file: could not convert string to float: 'x'."),
        (
            {"last": "0.5 0.55 0.95"},
            "(Cl) of the cell are 0.40 A apart, less than 0.5 of the sum of their covalent radii (2.68 A)",
        ),
        ({"symbols": "Na Na\n"}, "Na has a net formal charge of +64 e"),
    ],
)
def test_broken_poscar(tmp_path, change, expected):
    assert expected in refused(poscar(tmp_path, **change), min_image_A=11.0)


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("5.64056000", "abc", "cannot be read as a CIF file: could not convert string to float: 'abc'."),
        (
            "_atom_site_fract_x",
            "_atom_site_x",
            "cannot be read as a CIF file: _atom_site_fract_x is missing.",
        ),
        ("  Na  Na0", "  Br  Br1  4  0  0  0  0.5\n  Na  Na0", "Occupancy 1.5 exceeded tolerance."),
        ("  Cl  Cl1", "  Xx  Xx1", "holds Xx, which is no element."),
        (None, "no structure at all", "cannot be read as a CIF file: Invalid CIF file with no structures."),
        (None, "", "cannot be read as a CIF file: Invalid CIF file with no structures."),
        (None, "\udcff\0", "cannot be read as a CIF file"),
    ],
)
def test_broken_cif(tmp_path, old, new, expected):
    text = (STRUCTURES / "NaCl.cif").read_text()
    file = tmp_path / "broken.cif"
    file.write_bytes((text.replace(old, new) if old else new).encode(errors="surrogateescape"))
    assert refused(file).startswith("broken.cif ") and expected in refused(file)


def test_too_few_sites_for_a_mixture(tmp_path):
    file = tmp_path / "mixed.cif"
    cell = "".join(f"_cell_length_{axis} 3\n" for axis in "abc")
    cell += "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    sites = "Na1 Na 0 0 0 0.5\nK1 K 0 0 0 0.5\nCl1 Cl 0.5 0.5 0.5 1\n"
    header = "loop_\n" + "".join(f"_atom_site_{column}\n" for column in columns)
    file.write_text(f"data_x\n{cell}_symmetry_space_group_name_H-M 'P 1'\n{header}{sites}")
    reason = refused(file, max_atoms=2)
    assert reason.startswith("mixed.cif cannot be ordered: 1 sites cannot hold 0.5 K, 0.5 Na")
    record = build(file, mobile="Na", min_image_A=5.0, max_atoms=32, seed=1).record
    assert record["occupancies_realised"]["K 0.5"] == record["occupancies_realised"]["Na 0.5"] > 0
