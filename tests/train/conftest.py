"""A training of the two-atom cell of NaCl in a folder of its own, with real Quantum ESPRESSO."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TRAINING = {
    "name": "nacl",
    "licence": "CC0-1.0",
    "folder": "models",
    "materials": [
        {
            "name": "NaCl2", "candidate": "NaCl", "max_atoms": 2, "min_image_A": 3.5, "force_labels": 48,
            "alpha_labels": 8, "ions_displaced": 1, "modes_displaced": 3,
        }
    ],
    # The shipped force field stands in for a teacher: it is fast, and the test is of the machinery.
    "teacher": {
        "factory": "ionraman.training.calculators:shipped",
        "arguments": {"path": "workflow/models/force-small"},
        "level": "shipped force field",
    },
    "sample": {
        "start": "small", "temperatures_K": [300, 900], "expansions": [0.0, 0.02], "repeats": 2, "length_ps": 0.2,
        "equilibration_ps": 0.1, "interval_fs": 20, "rattle_A": [0.05, 0.15], "rattled": 6, "held_out": 0.25,
        "valid": 0.25,
    },
    "espresso": {"pseudopotentials": "pseudo", "ecutwfc_Ry": 20, "k_length_A": 6.4, "per_job": 5},
    "force": {"channels": 8, "r_max": 4.5, "layers": 1, "epochs": 25, "learning_rate": 0.02, "lr_factor": 0.9},
    "alpha": {"members": 2, "channels": 4, "r_max": 4.5, "radial": 8, "epochs": 60},
    "fit": {"pieces": 1},
    "curve": {"shares": [0.5], "repeats": 1},
    # So few labels make no good model (and the k-points make the cubic cell anisotropic, which no model of crystals follows): the limits are
    # wide, and one test shows that narrow ones refuse.
    "validate": {
        "nvt_ps": 0.4, "nve_ps": 0.4, "run_atoms": 16, "nvt_temperatures_K": [300], "force_rmse_meV_A": 1000,
        "energy_rmse_meV_atom": 500, "stress_rmse_GPa": 10, "lattice_percent": 10, "phonon_rmse_cm": 100,
        "nve_drift_meV_atom": 5, "isotropic": 10, "anisotropic": 10, "intensity": 500, "ion_response": 20,
    },
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def quantum_espresso():
    """The programs must be there: a skipped test would look like a passed one."""
    for program in ("pw.x", "ph.x"):
        if shutil.which(program) is None:
            pytest.fail(
                f"{program} is missing: apt-get install quantum-espresso libopenblas0-pthread", pytrace=False
            )


class Project:
    """A copy of the project by links, with a configuration of its own."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        for name in ("Snakefile", "scripts", "workflow", "profiles"):
            (folder / name).symlink_to(root / name)
        shutil.copytree(root / "config", folder / "config")
        shutil.copytree(root / "tests/train/data/pseudo", folder / "pseudo")
        self.config = {
            "campaign": "salt",
            "select": {"names": ["NaCl"], "tags": []},
            "compute": {"device": "cpu", "threads": 1},
            "training": yaml.safe_load(yaml.safe_dump(TRAINING)),
        }
        self.results = folder / "results/salt/training"

    def environment(self, path: str = "/usr/local/bin:/usr/bin:/bin") -> dict[str, str]:
        return os.environ | {"PATH": f"{Path(sys.executable).parent}:{path}", "HOME": str(self.folder)}

    def run(self, *arguments: str, path: str = "/usr/local/bin:/usr/bin:/bin") -> subprocess.CompletedProcess:
        """scripts/train.py with the configuration."""
        (self.folder / "config/salt.yaml").write_text(yaml.safe_dump(self.config))
        command = [sys.executable, "scripts/train.py", "--configfile", "config/salt.yaml", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(path),
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )

    def program(self, name: str, *arguments: str) -> list[str]:
        """Command of one of the programs of the rules."""
        return [sys.executable, f"scripts/{name}.py", "--folder", str(self.results), *arguments]


@pytest.fixture(scope="session")
def project_in(root):
    """Makes the project in a folder."""
    return lambda folder: Project(folder, root)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, project_in):
    """The project after a whole training, and what the launcher printed."""
    project = project_in(tmp_path_factory.mktemp("train"))
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return project, done.stdout
