"""Registration of a trained model: its folder with generated cards, and its entry in models.yaml."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from ase import Atoms

from ionraman import polarizability, potentials
from ionraman.digests import model_sha256
from ionraman.training.settings import Training
from ionraman.trajectory import write_atomically, write_json

TITLES = {"force": "MACE force field", "alpha": "AtomicDielectricMACE ensemble"}


def install(
    kind: str,
    source: Path,
    folder: Path,
    training: Training,
    labels: dict,
    errors: dict,
    checks: list[dict],
    trained: list[dict[str, float]],
    example: Atoms,
) -> str:
    """Copy a model folder and write card.json, README.md and reference.json beside the weights.

    Args:
        kind: 'force' or 'alpha'; source, folder: model folders.
        labels: the kind's part of labels.json; errors: its held-out errors; checks: rows of the validation.
        trained: training compositions as atomic fractions (see `ionraman.trust`).
        example: a labelled configuration; reference.json holds the model's values for it.

    Returns:
        The SHA-256 of the model.
    """  # fmt: skip
    staged = folder.with_name(f".{folder.name}")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(source, staged)
    fit = getattr(training, kind).model_dump(mode="json")
    card = {
        "kind": kind,
        "licence": training.licence,
        "labels": {key: labels[key] for key in ("level", "pseudopotentials", "frames", "by_material")}
        | {"rejected": len(labels["rejected"])},
        "training_compositions": trained,
        "errors_held_out": errors,
        "validation": [row for row in checks if _concerns(kind, row)],
        "fit": fit,
        "made_with": "scripts/campaign train",
    }
    write_json(staged / "card.json", card)
    write_json(staged / "reference.json", _reference(kind, staged, example))
    digest = model_sha256(staged)
    (staged / "README.md").write_text(_readme(kind, training, card, digest))
    if folder.exists():
        shutil.rmtree(folder)
    staged.replace(folder)
    return digest


def add_entries(file: Path, training: Training, digests: dict[str, str]) -> None:
    """Name the models in models.yaml, below `force:` and `alpha:`; comments and all other entries stay as they are.

    Raises:
        ValueError: the file would not read back with the new entries.
    """
    text = file.read_text(encoding="utf-8")
    for kind in digests:
        entry = [
            f"  {training.name}:",
            f"    path: {training.folder}/{training.name}-{kind}",
            f"    licence: {json.dumps(training.licence)}",
        ]
        text = _with_entry(text, kind, training.name, entry)
    content = yaml.safe_load(text)
    for kind in digests:
        if content[kind][training.name]["path"] != f"{training.folder}/{training.name}-{kind}":
            raise ValueError(
                f"{file}: the entry {kind}.{training.name} could not be written; add it by hand."
            )
    write_atomically(file, text.encode())


def _with_entry(text: str, kind: str, name: str, entry: list[str]) -> str:
    lines = text.splitlines()
    heads = [
        k for k, line in enumerate(lines) if line.split("#")[0].rstrip() in (f"{kind}:", f"{kind}: {{}}")
    ]
    if not heads:
        return "\n".join([*lines, "", f"{kind}:", *entry]) + "\n"
    head = heads[0]
    lines[head] = lines[head].replace(": {}", ":", 1)
    end = next(
        (k for k in range(head + 1, len(lines)) if lines[k] and not lines[k].startswith((" ", "#"))),
        len(lines),
    )
    old = [k for k in range(head + 1, end) if lines[k].split("#")[0].rstrip() == f"  {name}:"]
    if old:
        stop = next(
            (k for k in range(old[0] + 1, end) if not lines[k].startswith("    ") and lines[k].strip()), end
        )
        while stop > old[0] + 1 and not lines[stop - 1].strip():
            stop -= 1
        lines[old[0] : stop] = entry
    else:
        lines[head + 1 : head + 1] = entry
    return "\n".join(lines) + "\n"


def _concerns(kind: str, row: dict) -> bool:
    of_alpha = row["name"].startswith(("polarizability", "I_low", "integrated", "low-frequency", "dalpha", "symmetries", "alpha"))
    return of_alpha == (kind == "alpha")


def _reference(kind: str, folder: Path, atoms: Atoms) -> dict:
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    record = {
        "numbers": plain.numbers.tolist(),
        "positions_A": plain.positions.tolist(),
        "cell_A": plain.cell.array.tolist(),
    }
    if kind == "force":
        plain.calc = potentials.load(folder).calculator(dtype="float64")
        return record | {
            "energy_eV": plain.get_potential_energy(),
            "forces_eV_A": plain.get_forces().tolist(),
        }
    model = polarizability.load(folder).double()
    return record | {"alpha_A3": model.predict([plain])[0].sum(axis=1).tolist()}


def _readme(kind: str, training: Training, card: dict, digest: str) -> str:
    formulas = ", ".join(
        "".join(f"{symbol}{share:.3g}" for symbol, share in composition.items())
        for composition in card["training_compositions"]
    )
    lines = [
        f"# {training.name}: {TITLES[kind]}",
        "",
        "Made and validated by `scripts/campaign train`; `card.json` holds all of this in numbers.",
        "",
        f"Labels: {card['labels']['level']}; {card['labels']['frames']} configurations, {card['labels']['rejected']} rejected.",
        f"Trained on compositions (atomic fractions): {formulas}. Others are marked untrusted in the ranking.",
        f"Licence: {training.licence}. SHA-256: `{digest}`.",
        "",
        "| check | material | value | limit | unit | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    words = {True: "passed", False: "failed", None: "not checked"}
    for row in card["validation"]:
        value, limit = ("" if row[key] is None else f"{row[key]:.3g}" for key in ("value", "limit"))
        verdict = words[row["passed"]] + (f": {row['note']}" if row["note"] else "")
        lines.append(f"| {row['name']} | {row['material']} | {value} | {limit} | {row['unit']} | {verdict} |")
    return "\n".join(lines) + "\n"
