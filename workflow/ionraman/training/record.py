"""What the programs of a training need to know, kept as settings.json in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ionraman.candidates import read_table
from ionraman.problems import ConfigError, choice
from ionraman.settings import Settings, load_models, select_model
from ionraman.training.settings import Training, load_training
from ionraman.trajectory import read_json, write_json


@dataclass(frozen=True)
class Record:
    """What the programs of a training need to know: its settings, the rows that its materials name, and models in use.

    candidates: structure (file relative to the project), mobile, carriers by name; models: path and sha256 of the
    models that the settings name, by kind ('force', 'alpha') and name.
    """

    training: Training
    candidates: dict[str, dict[str, str]]
    models: dict[str, dict[str, dict[str, str | None]]]


def make_record(config: dict[str, Any], settings: Settings, root: Path) -> Record:
    """Check the block and everything that it names.

    Raises:
        ConfigError: all problems at once.
    """
    training, problems = load_training(config), []
    rows, wrong = read_table(root / settings.candidates, settings.candidates, settings)
    problems += wrong
    by_name = {row.name: row for row in rows}
    for material in training.materials:
        if material.candidate not in by_name:
            allowed = choice(list(by_name), material.candidate)
            problems.append(
                f"config, training.materials, {material.name}: found candidate {material.candidate!r}; allowed: {allowed}."
            )
    entries, models = load_models(root / settings.models.file, settings.models.file), {"force": {}, "alpha": {}}
    for key, kind, name in (
        ("sample.start", "force", training.sample.start),
        ("force.foundation", "force", training.force.foundation),
        ("validate.reference_alpha", "alpha", training.validate_.reference_alpha),
    ):
        if name is not None:
            entry, wrong = select_model(entries, kind, name, settings.models.file, root)
            problems += [text.replace(f"models.{kind}", f"training.{key}") for text in wrong]
            if entry:
                models[kind][name] = {"path": entry.path, "sha256": entry.sha256}
    if problems:
        raise ConfigError(problems)
    folder = PurePosixPath(settings.candidates).parent
    named = {material.candidate for material in training.materials}
    candidates = {
        row.name: {"structure": str(folder / row.structure), "mobile": row.mobile, "carriers": row.carriers}
        for row in rows
        if row.name in named
    }
    return Record(training, candidates, models)


def write_record(record: Record, path: Path) -> None:
    """Write settings.json of a training; left alone where nothing changed."""
    content = {
        "training": record.training.model_dump(mode="json", by_alias=True),
        "candidates": record.candidates,
        "models": record.models,
    }
    if not path.exists() or read_json(path) != content:
        write_json(path, content)


def read_record(folder: Path) -> Record:
    """The record of a training from its folder."""
    content = read_json(folder / "settings.json")
    return Record(Training.model_validate(content["training"]), content["candidates"], content["models"])
