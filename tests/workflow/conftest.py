"""A small campaign in a folder of its own: the project's files by link, a table and a configuration of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DYNAMICS = {
    "relax_steps": 20, "npt_ps": 0.1, "npt_limit_ps": 0.1, "nvt_ps": 0.2, "production_ps": 4.0, "replicas": 3,
    "checkpoint_ps": 0.5,
}  # fmt: skip


class Campaign:
    """A clone of the project in which Snakemake can run; results and table are its own."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        for name in ("Snakefile", "scripts", "workflow", "profiles"):
            (folder / name).symlink_to(root / name)
        shutil.copytree(root / "config", folder / "config")
        self.config = {
            "campaign": "tiny",
            "select": {"names": [], "tags": []},
            "candidates": "config/tiny.tsv",
            "temperatures_K": [800],
            "reference_temperature_K": 800,
            "structure": {"min_image_A": 5, "max_atoms": 8},
            "dynamics": dict(DYNAMICS),
            "compute": {"pack_size": 1},
            "ranking": {"key": "I_low"},
            "raman": {"laser_nm": 785, "nu2_cm": 120},  # 4 ps resolve 50 cm^-1
        }
        self.rows = ["name\tstructure\tmobile\tcarriers\toverrides"]
        self.results = folder / "results" / "tiny"

    def add(
        self, name: str, structure: str, mobile: str = "Na", carriers: str = "", overrides: str = ""
    ) -> None:
        self.rows.append("\t".join([name, structure, mobile, carriers, overrides]))

    def write(self) -> None:
        (self.folder / "config/tiny.tsv").write_text("\n".join(self.rows) + "\n")
        (self.folder / "config/tiny.yaml").write_text(yaml.safe_dump(self.config))

    def command(self, *arguments: str) -> list[str]:
        self.write()
        profile = ["--profile", "profiles/local", "--configfile=config/tiny.yaml"]
        return [sys.executable, "-m", "snakemake", *profile, *arguments]

    def run(self, *arguments: str, program: str | None = None) -> subprocess.CompletedProcess:
        command = self.command(*arguments)
        if program:
            command = [sys.executable, program, "--configfile", "config/tiny.yaml", *arguments]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "PYTHONPATH": str(self.folder / "workflow"),  # of this checkout, whatever is installed
        }
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=1500
        )

    def planned(self, *arguments: str) -> list[str]:
        """Rules and wildcards of a dry run, 'rule wildcards'."""
        done = self.run("-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        jobs, rule = [], None
        for line in (done.stdout + done.stderr).splitlines():
            if line.startswith(("rule ", "localrule ")):
                rule = line.split()[1].rstrip(":")
                jobs.append(rule)
            elif line.strip().startswith("wildcards:") and rule:
                jobs[-1] += " " + line.split("wildcards:")[1].strip()
        return [job for job in jobs if job != "all"]

    def summary(self, name: str, temperature: str = "800") -> dict:
        return json.loads((self.results / f"runs/{name}/{temperature}K/summary.json").read_text())


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, root) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("campaign"), root)
