"""A campaign: the settings joined with the selected rows of the candidate table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ionraman.candidates import Candidate, read_table
from ionraman.problems import ConfigError, choice
from ionraman.settings import ModelEntry, Scalar, Settings, load_models, load_settings, select_model
from ionraman.trajectory import write_atomically, write_json


@dataclass(frozen=True)
class Campaign:
    """What is run: settings, the selected candidates in the order of the table, and the two models."""

    settings: Settings
    candidates: tuple[Candidate, ...]
    models: dict[str, ModelEntry]

    @cached_property
    def _by_name(self) -> dict[str, Candidate]:
        return {candidate.name: candidate for candidate in self.candidates}

    def candidate(self, name: str) -> Candidate:
        """The selected candidate of that name (KeyError if there is none)."""
        return self._by_name[name]

    @property
    def folder(self) -> Path:
        """Folder of the campaign, relative to the project."""
        return Path(self.settings.results) / self.settings.campaign

    def runs(self) -> list[tuple[str, float]]:
        """(candidate, temperature in K) in the order of the table; a row's own temperatures replace the
        others."""
        return [
            (candidate.name, temperature)
            for candidate in self.candidates
            for temperature in candidate.temperatures_K or self.settings.temperatures_K
        ]

    def setting(self, name: str | None, key: str) -> Scalar:
        """The value of a dotted key for a candidate: the override of its row, else (or for None) the
        campaign's.

        Values have one type for each key (300 and 300.0 are one float), so that a comparison of parameters
        sees changes of value only.
        """
        overrides = {} if name is None else self._by_name[name].overrides
        if key in overrides:
            return overrides[key]
        value: Any = self.settings
        for part in key.split("."):
            value = getattr(value, part)
        return value

    def structure_file(self, name: str) -> str:
        """Structure file of a candidate, relative to the project."""
        return str(PurePosixPath(self.settings.candidates).parent / self._by_name[name].structure)


def read_config(files: list[Path]) -> dict[str, Any]:
    """The configuration in the first file with the others laid over it: blocks are merged, lists replaced.

    Raises:
        ConfigError: a file cannot be read or is not a YAML block of keys.
    """
    config: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                [f"{file} cannot be read ({error.strerror}); allowed: an existing file."]
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError([f"{file} is not valid YAML ({' '.join(str(error).split())})."]) from None
        if not isinstance(content, dict | None):
            raise ConfigError([f"{file}: found {type(content).__name__}; allowed: a block of keys."])
        merge(config, content or {})
    return config


def merge(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Lay one configuration over another: blocks are merged, all else is replaced."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merge(below[key], value)
        else:
            below[key] = value


def load_campaign(config: dict[str, Any], root: Path) -> Campaign:
    """Check the merged configuration and everything that it names.

    Args:
        config: config.yaml with its overlays merged.
        root: folder of the project, to which paths are relative.

    Raises:
        ConfigError: one sentence for each problem, all at once: unknown keys, wrong types and values, missing
            files, rows that cannot be run as written. What is wrong inside a structure file is that row's
            status instead.
    """
    settings, problems = load_settings(config)
    candidates: list[Candidate] = []
    models: dict[str, ModelEntry] = {}
    try:
        candidates, wrong = read_table(root / settings.candidates, settings.candidates, settings)
        problems += wrong
        candidates, wrong = _select(candidates, settings, complete=not wrong)
        problems += wrong
    except ConfigError as error:
        problems += error.problems
    try:
        listed = load_models(root / settings.models.file, settings.models.file)
        for kind in ("force", "alpha"):
            name = getattr(settings.models, kind)
            entry, wrong = select_model(listed, kind, name, settings.models.file, root)
            problems += wrong
            models |= {kind: entry} if entry else {}
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return Campaign(settings, tuple(candidates), models)


def write_snapshot(
    campaign: Campaign,
    packs: dict[str, list[tuple[str, float]]],
    idle: list[str],
    digests: dict[str, str],
    folder: Path,
) -> Path:
    """Write what a launch decided on; its jobs read that, so that editing the configuration leaves them alone.

    packs: runs by pack; idle: packs without a trajectory; digests: SHA-256 of the models by kind. The file is named after its content.
    """
    record = {
        "settings": campaign.settings.model_dump(),
        "candidates": [candidate.model_dump() for candidate in campaign.candidates],
        "models": {kind: entry.model_dump() for kind, entry in campaign.models.items()},
        "packs": packs,
        "idle": idle,
        "digests": digests,
    }
    text = json.dumps(record)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        write_atomically(path, text.encode())
    return path


def read_snapshot(path: Path) -> tuple[Campaign, dict[str, list[tuple[str, float]]], list[str], dict[str, str]]:
    """Campaign, packs, idle packs and digests of `write_snapshot`."""
    record = json.loads(path.read_text())
    campaign = Campaign(
        Settings.model_validate(record["settings"]),
        tuple(Candidate.model_validate(candidate) for candidate in record["candidates"]),
        {kind: ModelEntry.model_validate(entry) for kind, entry in record["models"].items()},
    )
    packs = {name: [(run[0], run[1]) for run in members] for name, members in record["packs"].items()}
    return campaign, packs, record.get("idle", []), record["digests"]


def write_record(
    campaign: Campaign, packs: dict[str, list[tuple[str, float]]], digests: dict[str, str], path: Path
) -> None:
    """Write campaign.json, what programs outside the workflow need to know; left alone where nothing changed.

    packs: runs by pack; digests: SHA-256 of the models by kind.
    """
    settings = campaign.settings
    protocol = ("npt_ps", "nvt_ps", "production_ps", "replicas", "timestep_fs", "sampling_fs")
    record = {
        "campaign": settings.campaign,
        "reference_temperature_K": settings.reference_temperature_K,
        "key": settings.ranking.key,
        "confidence": settings.confidence,
        "version": version("ionraman"),
        "models": [
            {
                "role": kind,
                "name": getattr(settings.models, kind),
                "path": entry.path,
                "sha256": digests[kind],
                "licence": entry.licence,
            }
            for kind, entry in campaign.models.items()
        ],
        "runs": [
            {"candidate": name, "temperature_K": temperature, "pack": pack}
            | {key: campaign.setting(name, f"dynamics.{key}") for key in protocol}
            for pack, members in packs.items()
            for name, temperature in members
        ],
    }
    if not path.exists() or json.loads(path.read_text()) != record:
        write_json(path, record)


def _select(
    candidates: list[Candidate], settings: Settings, complete: bool
) -> tuple[list[Candidate], list[str]]:
    """Rows chosen by name or tag (all if neither is given), and the names and tags that do not exist.

    Where the table has problems (`complete` False), rows are missing and nothing is said about names and
    tags.
    """
    names, tags = set(settings.select.names), set(settings.select.tags)
    if not complete:
        return [], []
    known = {
        "names": [candidate.name for candidate in candidates],
        "tags": sorted({tag for candidate in candidates for tag in candidate.tags}),
    }
    problems = [
        f"config, select.{kind}: found {wanted!r}; allowed: {choice(known[kind], wanted)}."
        for kind, asked in (("names", settings.select.names), ("tags", settings.select.tags))
        for wanted in asked
        if wanted not in known[kind]
    ]
    if not candidates:
        problems.append(f"{settings.candidates}: found no candidates; allowed: at least one row.")
    chosen = [c for c in candidates if not (names or tags) or c.name in names or tags.intersection(c.tags)]
    return chosen, problems
