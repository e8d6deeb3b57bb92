"""SHA-256 of model files and folders, without importing what reads them."""

from __future__ import annotations

import hashlib
from pathlib import Path


def model_sha256(path: Path | str) -> str:
    """SHA-256 of a file, or of a model folder (model.json and the weights, with their names).

    Raises:
        FileNotFoundError: there is no such file, or the folder has no model.json.
    """
    path, digest = Path(path), hashlib.sha256()
    files = [path] if path.is_file() else [path / "model.json", *sorted(path.glob("member_*.safetensors"))]
    for file in files:
        if path.is_dir():
            digest.update(file.name.encode() + b"\0")
        digest.update(file.read_bytes())
    return digest.hexdigest()
