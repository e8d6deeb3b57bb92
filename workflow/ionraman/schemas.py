"""JSON schemas of config.yaml, its block training, models.yaml and the rows of candidates.tsv, exported from the definitions in
code.

`python -m ionraman.schemas workflow/schemas` writes them; a test fails when they are out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ionraman.candidates import Candidate
from ionraman.settings import ModelList, Settings
from ionraman.training.settings import Training

MODELS = {"config": Settings, "candidates": Candidate, "models": ModelList, "training": Training}


def schema_texts() -> dict[str, str]:
    """Content of each schema file by its name."""
    return {
        f"{name}.schema.json": json.dumps(model.model_json_schema(), indent=2) + "\n"
        for name, model in MODELS.items()
    }


if __name__ == "__main__":
    for name, text in schema_texts().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
