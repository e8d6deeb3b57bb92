"""What tests share: the project's root, the shipped models, and one thread for the numerical libraries."""

import os
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def force_model():
    from ionraman import potentials

    return potentials.load(ROOT / "workflow/models/force-small")


@pytest.fixture(scope="session")
def alpha_model():
    from ionraman import polarizability

    return polarizability.load(ROOT / "workflow/models/alpha-small")
