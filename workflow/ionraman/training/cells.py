"""Cells of the training crystals: built like a candidate's, and able to be labelled by a code with closed shells."""

from __future__ import annotations

from pathlib import Path

import ase.io
from ase import Atoms

from ionraman.structures import build
from ionraman.training.record import Record
from ionraman.training.settings import Material


class CellInvalid(ValueError):
    """A training cell cannot be labelled; the sentence names the material."""


def training_cell(material: Material, structure: Path, mobile: str, carriers: str) -> Atoms:
    """The cell of a material.

    Args:
        material: its settings; `carriers` of the row are replaced by those of the material where it states some.
        structure: structure file of its candidate.

    Raises:
        CellInvalid: open shell (an odd number of electrons), that is, carriers that are not balanced.
        ionraman.structures.StructureInvalid: as for a candidate; a net formal charge among them.
    """
    recipe = carriers if material.carriers is None else material.carriers
    built = build(
        structure,
        mobile=mobile,
        carriers=recipe,
        min_image_A=material.min_image_A,
        max_atoms=material.max_atoms,
        seed=material.cell_seed,
    )
    check_electrons(built.atoms, material.name)
    return built.atoms


def check_electrons(atoms: Atoms, name: str) -> None:
    """Refuse a neutral cell with an odd number of electrons: occupations are fixed, and a gap is assumed.

    Raises:
        CellInvalid: names the cell and what would balance it.
    """
    if int(atoms.numbers.sum()) % 2:
        raise CellInvalid(
            f"training.materials, {name}: {atoms.get_chemical_formula('hill')} has {int(atoms.numbers.sum())} electrons, an "
            "open shell; balance a vacancy by a dopant (Sb->W with Na-vacancy), or take a cell with two of them."
        )


def write_cells(record: Record, root: Path, folder: Path) -> None:
    """Write `<material>.extxyz` for every material; all problems are reported at once.

    Raises:
        CellInvalid: one line for each material that cannot be used.
    """
    problems = []
    folder.mkdir(parents=True, exist_ok=True)
    for material in record.training.materials:
        row = record.candidates[material.candidate]
        try:
            atoms = training_cell(material, root / row["structure"], row["mobile"], row["carriers"])
        except ValueError as error:
            problems.append(f"{material.name}: {error}")
            continue
        atoms.info["material"] = material.name
        ase.io.write(folder / f"{material.name}.extxyz", atoms)
    if problems:
        raise CellInvalid("\n".join(problems))
