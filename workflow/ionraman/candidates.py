"""The candidate table: rows read, checked and joined with the settings that they override.

A table is tab-separated text with a header; lines that start with # are comments. Lists in a cell are
separated by ;. Reading it imports nothing heavy, because every job of a campaign reads it again.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from ionraman.carriers import parse_carriers
from ionraman.problems import ConfigError, choice, sentences
from ionraman.settings import OVERRIDABLE, Group, SafeName, Scalar, Settings, Temperatures

# H to Lr; isotopes and dummies are not candidates.
ELEMENTS = frozenset(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr "
    "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta "
    "W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr".split()
)

STRUCTURE_SUFFIXES = (".cif", ".vasp", ".poscar")


def _items(value: Any) -> Any:
    return [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else value


def _pairs(value: Any) -> Any:
    """'a=1; b=2' as {'a': '1', 'b': '2'}."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for item in _items(value):
        key, equals, text = (part.strip() for part in item.partition("="))
        if not (key and equals and text):
            raise ValueError(f"found {item!r}; allowed: key=value pairs separated by ;")
        if key in pairs:
            raise ValueError(f"found {key} twice; allowed: each key once")
        pairs[key] = text
    return pairs


def _element(value: str) -> str:
    if value not in ELEMENTS:
        raise ValueError(f"found {value!r}; allowed: the symbol of an element")
    return value


def _recipe(value: str) -> str:
    try:
        carriers = parse_carriers(value)
        for carrier in carriers:
            for symbol in filter(None, (carrier.host, carrier.dopant)):
                if symbol not in ELEMENTS:
                    raise ValueError(f"{symbol!r} is no element")
    except ValueError as error:
        raise ValueError(
            f"found {value!r}, {error}; allowed: terms such as 'Sb->W 0.125; Na-vacancy 0.125', "
            "amounts per formula unit"
        ) from None
    return value


def _structure_file(value: str) -> str:
    path = PurePosixPath(value)
    known = path.suffix.lower() in STRUCTURE_SUFFIXES or path.name.startswith(("POSCAR", "CONTCAR"))
    if path.is_absolute() or not known:
        raise ValueError(
            f"found {value!r}; allowed: a path relative to the folder of the table, ending in "
            f"{', '.join(STRUCTURE_SUFFIXES)} or named POSCAR or CONTCAR"
        )
    return value


class Candidate(Group):
    """One row of the candidate table."""

    model_config = Group.model_config | {"strict": False}

    name: SafeName = Field(description="unique name, also in capitals or not; names the candidate's folders")
    structure: Annotated[str, BeforeValidator(_structure_file)] = Field(
        description="CIF or POSCAR file, relative to the folder of the table"
    )
    mobile: Annotated[str, BeforeValidator(_element)] = Field(description="mobile species, an element")
    carriers: Annotated[str, BeforeValidator(_recipe)] = Field(
        "", description="carriers in amounts per formula unit: 'Sb->W 0.125; Na-vacancy 0.125'"
    )
    temperatures_K: Annotated[Temperatures, BeforeValidator(_items)] = Field(
        [], description="temperatures in K, separated by ; and instead of the campaign's"
    )
    overrides: Annotated[dict[str, Scalar], BeforeValidator(_pairs)] = Field(
        {}, description="settings of this row: 'production_ps=200; replicas=5'"
    )
    tags: Annotated[list[SafeName], BeforeValidator(_items)] = Field([], description="tags, separated by ;")
    sigma300_S_cm: float | None = Field(None, ge=0, description="measured conductivity at about 300 K, S/cm")
    sigma_source: str = Field("", description="source of the conductivity")
    gap_eV: float | None = Field(None, gt=0, le=50, description="band gap, eV")
    note: str = Field("", description="remark")


_COLUMNS = list(Candidate.model_fields)
_REQUIRED = [name for name, field in Candidate.model_fields.items() if field.is_required()]


def _override_keys() -> dict[str, list[str]]:
    """Dotted keys that a row may override, by what may be written: the key alone where it is unique, or
    dotted."""
    keys: dict[str, list[str]] = {}
    for group in OVERRIDABLE:
        for key in Settings.model_fields[group].annotation.model_fields:
            keys.setdefault(key, []).append(f"{group}.{key}")
            keys[f"{group}.{key}"] = [f"{group}.{key}"]
    return keys


_OVERRIDE_KEYS = _override_keys()


def resolve_overrides(
    overrides: dict[str, str], settings: Settings, where: str
) -> tuple[dict[str, Scalar], list[str]]:
    """Overrides under dotted keys with the types of the settings, and the problems found.

    Each group is validated with the overrides in it, so that rules between keys hold for the row as well.
    """
    groups: dict[str, dict[str, Any]] = {}
    problems = []
    for key, text in overrides.items():
        dotted = _OVERRIDE_KEYS.get(key, [])
        if len(dotted) != 1:
            options = choice(dotted or [known for known in _OVERRIDE_KEYS if "." not in known], key)
            problems.append(
                f"{where}, overrides.{key}: {'ambiguous' if dotted else 'unknown key'}; allowed: {options}."
            )
            continue
        group, leaf = dotted[0].split(".")
        if leaf in groups.setdefault(group, {}):
            problems.append(f"{where}, overrides.{key}: found twice; allowed: each key once.")
        groups[group][leaf] = None if text == "null" else text
    resolved: dict[str, Scalar] = {}
    for group, values in groups.items():
        base = getattr(settings, group)
        try:
            valid = type(base).model_validate(base.model_dump() | values, strict=False)
        except ValidationError as error:
            problems += sentences(error, type(base), where, "overrides.")
        else:
            resolved |= {f"{group}.{leaf}": getattr(valid, leaf) for leaf in values}
    return resolved, problems


def read_table(file: Path, name: str, settings: Settings) -> tuple[list[Candidate], list[str]]:
    """All sound rows of the table, and every problem found in it.

    Args:
        file: the table; structure files are relative to its folder.
        name: what the table is called in messages.
        settings: the campaign's, against which overrides are checked.

    Raises:
        ConfigError: the table cannot be read or its header is wrong, so that no row can be judged.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(
            [f"config, candidates: {name} cannot be read ({error.strerror}); allowed: an existing table."]
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            [f"{name}: byte {error.start} is not UTF-8; allowed: tab-separated UTF-8 text."]
        ) from None
    rows = [
        (number, line) for number, line in enumerate(lines, 1) if line.strip() and line.lstrip()[0] != "#"
    ]
    if not rows:
        raise ConfigError(
            [f"{name}: found no header; allowed: a first line with the columns {', '.join(_COLUMNS)}."]
        )
    header = _cells(rows[0][1])
    _check_header(header, f"{name} row {rows[0][0]}")

    candidates: list[Candidate] = []
    problems: list[str] = []
    first_row: dict[str, tuple[int, str]] = {}
    for number, line in rows[1:]:
        cells = _cells(line)
        filled = {column: cell for column, cell in zip(header, cells) if cell}
        label = filled.get("name", "no name")
        where = f"{name} row {number} ({label})"
        if len(cells) > len(header):
            problems.append(
                f"{where}: found {len(cells)} cells; allowed: at most {len(header)}, one for each column."
            )
        if label.casefold() in first_row:
            other, spelling = first_row[label.casefold()]
            problems.append(
                f"{where}, name: found {label!r}, but row {other} is {spelling!r}; "
                "allowed: unique names, capitals or not."
            )
        elif "name" in filled:
            first_row[label.casefold()] = number, label
        if "structure" in filled and not (file.parent / (structure := filled["structure"])).is_file():
            problems.append(
                f"{where}, structure: found {structure!r}, which does not exist; "
                "allowed: an existing file, relative to the folder of the table."
            )
        try:
            candidate = Candidate.model_validate(filled)
        except ValidationError as error:
            problems += sentences(error, Candidate, where)
            candidate = None
        overrides, wrong = resolve_overrides(_readable_pairs(filled.get("overrides", "")), settings, where)
        problems += wrong
        if candidate is not None:
            candidates.append(candidate.model_copy(update={"overrides": overrides}))
    return candidates, problems


def _readable_pairs(text: str) -> dict[str, str]:
    """Pairs of an overrides cell, {} where the row's own check has refused it."""
    try:
        return _pairs(text)
    except ValueError:
        return {}


def _cells(line: str) -> list[str]:
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter="\t"))]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _check_header(header: list[str], where: str) -> None:
    problems = [
        f"{where}: found no column {column!r}; allowed: the columns {', '.join(_REQUIRED)} and any of "
        f"{', '.join(c for c in _COLUMNS if c not in _REQUIRED)}."
        for column in _REQUIRED
        if column not in header
    ]
    problems += [
        f"{where}: found the unknown column {column!r}; allowed: {choice(_COLUMNS, column)}."
        for column in header
        if column not in _COLUMNS
    ]
    problems += [
        f"{where}: found the column {column!r} {count} times; allowed: each column once."
        for column, count in Counter(header).items()
        if count > 1
    ]
    if problems:
        raise ConfigError(problems)
