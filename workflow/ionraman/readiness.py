"""Whether everything that a job needs is on disk, so that nodes without internet can run it."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ionraman.digests import model_sha256
from ionraman.settings import PICKLED, ModelEntry


class NotReady(ValueError):
    """Something is missing; the message says what, and where to put it."""


def package_problems(requirements: Path) -> list[str]:
    """Packages of a pinned requirements file that are missing here or of another version."""
    problems = []
    for line in requirements.read_text().splitlines():
        pinned = re.match(r"([A-Za-z0-9._-]+)==([^\s;+\\]+)", line)
        if not pinned or ";" in line:
            continue
        name, wanted = pinned.groups()
        try:
            found = version(name).partition("+")[0]  # the local part says for which CUDA
        except PackageNotFoundError:
            problems.append(f"{name} {wanted} is not installed")
            continue
        if found != wanted:
            problems.append(f"{name} is {found}, {wanted} was pinned")
    return problems


def provide_model(kind: str, name: str, entry: ModelEntry, root: Path, listed: str) -> str:
    """Check a model's file against its SHA-256, after fetching it from its url where it is missing; its SHA-256.

    Raises:
        NotReady: missing and not to be had, or not what its SHA-256 says.
    """
    path, where = root / entry.path, f"{listed}, {kind}.{name}"
    if not path.exists():
        if entry.url is None:
            raise NotReady(f"{entry.path} is missing ({where}, no url): put the model there.")
        if entry.sha256 is None:
            raise NotReady(
                f"{entry.path} is missing. It is not fetched from {entry.url} as long as {where}.sha256 is null: get it from a source "
                f"that you trust, put it at {entry.path} and state its SHA-256."
            )
        _fetch(entry.url, path, entry.sha256)
    found = model_sha256(path)
    if entry.sha256 is None:
        if entry.path.endswith(PICKLED):
            raise NotReady(
                f"{where}.sha256 is null, and reading {entry.path} runs code: state its SHA-256 ({found}) if you trust it."
            )
    elif found != entry.sha256:
        raise NotReady(
            f"{entry.path} has SHA-256 {found}, but {where} states {entry.sha256}: replace the file."
        )
    return found


def _fetch(url: str, path: Path, sha256: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        with urllib.request.urlopen(url, timeout=60) as source, open(partial, "wb") as target:
            shutil.copyfileobj(source, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NotReady(
            f"{path} is missing and could not be fetched from {url} ({error}): put it there by other means."
        ) from None
    found = hashlib.sha256(partial.read_bytes()).hexdigest()
    if found != sha256:
        partial.unlink()
        raise NotReady(f"What {url} gave has SHA-256 {found}, not the stated {sha256}: it was thrown away.")
    partial.replace(path)


@contextmanager
def offline() -> Iterator[None]:
    """No connection to another host can be opened by Python code within."""
    original = socket.socket.connect

    def refuse(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise NotReady(
                f"A connection to {address} was asked for: a job on a node without internet would fail here."
            )
        return original(self, address)

    socket.socket.connect = refuse
    try:
        yield
    finally:
        socket.socket.connect = original
