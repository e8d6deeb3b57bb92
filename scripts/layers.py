"""The configuration that a launch has, from its arguments: files, then `config` of the profile or else --config, laid over each other.

Snakemake does the same; the launcher and the commands need to know it before, or without, Snakemake.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from ionraman.campaign import merge, read_config
from ionraman.settings import ConfigError

BASE = Path("config/config.yaml")


def values(arguments: list[str], *options: str) -> list[str]:
    """Values of options that may take several, in both spellings."""
    found, taking = [], False
    for word in arguments:
        option, equals, value = word.partition("=")
        if word.startswith("-"):
            found += [value] if option in options and equals else []
            taking = option in options and not equals
        elif taking:
            found.append(word)
    return found


def profiles(arguments: list[str]) -> list[dict]:
    """Contents of the profiles that the arguments name."""
    found = []
    for profile in values(arguments, "--profile", "--workflow-profile"):
        for file in sorted(Path(profile).glob("config*.yaml")):
            try:
                content = yaml.safe_load(file.read_text())
            except (OSError, yaml.YAMLError):
                continue  # Snakemake says what is wrong with it
            found += [content] if isinstance(content, dict) else []
    return found


def launch_config(arguments: list[str]) -> dict:
    """The merged configuration.

    Raises:
        ConfigError: a configuration file cannot be read.
    """
    config = read_config([BASE, *map(Path, values(arguments, "--configfile", "--configfiles"))])
    merge(config, _pairs(arguments))
    return config


def campaign_folder(arguments: list[str]) -> tuple[Path, Path]:
    """Folder of the campaign that the arguments name, and the one of all campaigns; also where some file cannot be read."""
    config: dict = {"campaign": "demo", "results": "results"}
    for file in [BASE, *map(Path, values(arguments, "--configfile", "--configfiles"))]:
        try:
            merge(config, read_config([file]))
        except ConfigError:
            continue
    merge(config, _pairs(arguments))
    return Path(str(config["results"])) / str(config["campaign"]), Path(str(config["results"]))


def _pairs(arguments: list[str]) -> dict:
    """What stands on the command line after --config, which replaces the lines of the profile."""
    pairs = values(arguments, "--config", "-C")
    if not pairs:
        for content in profiles(arguments):
            stated = content.get("config") or []
            pairs += [f"{key}={value}" for key, value in stated.items()] if isinstance(stated, dict) else stated
    found: dict = {}
    for pair in pairs:
        key, _, text = str(pair).partition("=")
        try:
            merge(found, {key: yaml.safe_load(text)})
        except yaml.YAMLError:
            continue  # Snakemake takes it as text, and the check of the configuration says what is wrong
    return found
