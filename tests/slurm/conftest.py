"""A SLURM cluster for the session, and campaigns of 8-atom cells that run on it through profiles/slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ionraman.attempts import Attempt, read_attempts
from ionraman.trajectory import trajectory_store
from workflow.conftest import Campaign

from .cluster import Cluster, missing

SHORT = {"npt_ps": 0.1, "nvt_ps": 0.2, "production_ps": 1.5, "replicas": 3, "checkpoint_ps": 0.1}


class SlurmCampaign(Campaign):
    """A campaign that is launched by scripts/run.py with an edited copy of a shipped SLURM profile.

    `resources` holds expressions for the dynamics that replace those of the profile ('1 if wildcards.pack == ...').
    """

    def __init__(self, folder: Path, root: Path, profile: str = "slurm") -> None:
        super().__init__(folder, root)
        self.root, self.shipped = root, root / "profiles" / profile / "config.yaml"
        self.config["dynamics"] |= SHORT
        self.config["raman"] = {"laser_nm": 785, "nu2_cm": 180}
        self.edits: dict = {}
        self.resources: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.launches: list[subprocess.Popen] = []

    def write(self) -> None:
        """Table, configuration, and the profile as a user edits it for this cluster, with short waits."""
        super().write()
        text = self.shipped.read_text()
        for mark, value in (("MY_CPU", "cpu"), ("MY_GPU_TYPE", "h100"), ("MY_GPU", "gpu")):
            text = text.replace(f"'{mark}'", f"'{value}'")
        profile = yaml.safe_load(text)
        del profile["default-resources"]["slurm_account"]  # no accounting here
        profile["config"] = [
            "walltime_min=60",
            "compute={device: cpu}",
        ]  # there is no GPU behind these devices
        profile |= {
            "slurm-init-seconds-before-status-checks": 3,
            "latency-wait": 10,
            "retries": 3,
        } | self.edits
        profile["set-resources"]["dynamics"] = profile["set-resources"]["dynamics"] | self.resources
        own = self.folder / "profile"
        own.mkdir(exist_ok=True)
        (own / "config.yaml").write_text(yaml.safe_dump(profile))

    def command(self, *arguments: str) -> list[str]:
        self.write()
        return [
            sys.executable,
            "-m",
            "snakemake",
            "--profile",
            "profile",
            "--configfile=config/tiny.yaml",
            *arguments,
        ]

    def launch(self, *arguments: str) -> subprocess.Popen:
        """Start scripts/run.py in a session of its own; its output goes to launch<N>.txt."""
        self.write()
        self.text = self.folder / f"launch{len(self.launches)}.txt"
        command = [
            "env",
            "--default-signal=INT",  # which is ignored where the tests run in the background
            sys.executable,
            "scripts/run.py",
            "--profile",
            "profile",
            "--configfile=config/tiny.yaml",
            *arguments,
        ]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "PYTHONPATH": str(self.root / "workflow"),
            "OMP_NUM_THREADS": "1",
        } | self.environment
        with open(self.text, "w") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.launches.append(process)
        return process

    def finish(self, process: subprocess.Popen, limit_s: float = 1200) -> int:
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"The launch did not end within {limit_s} s.\n{self.said()}")

    def said(self) -> str:
        """What the launcher and Snakemake said, and the logs of the jobs."""
        parts = [self.text.read_text()]
        logs = [*self.folder.glob("results/snakemake-*.log"), *self.results.glob("logs/*/*.log")]
        logs += [*self.folder.glob(".snakemake/slurm_logs/**/*.log")]
        for log in logs:
            parts.append(f"== {log}\n{log.read_text(errors='replace')[-4000:]}")
        return "\n".join(parts)

    def pack_of(self, name: str) -> str:
        return next(run["pack"] for run in self.record()["runs"] if run["candidate"] == name)

    def record(self) -> dict:
        return json.loads((self.results / "campaign.json").read_text())

    def attempts(self, name: str, stage: str = "dynamics") -> list[Attempt]:
        found = read_attempts(self.results / "packs" / self.pack_of(name))
        return [attempt for attempt in found if attempt.stage == stage]

    def frames(self, name: str) -> int:
        try:
            return trajectory_store(self.results / f"runs/{name}/800K").frames()
        except (ValueError, OSError, KeyError):
            return 0

    def positions(self, name: str):
        return trajectory_store(self.results / f"runs/{name}/800K").read()[0]["positions_A"]

    def log(self, name: str, stage: str = "dynamics") -> str:
        return (self.results / f"logs/{stage}/{self.pack_of(name)}.log").read_text()


def wait_until(
    condition: Callable[[], object], what: str, limit_s: float = 900, said: Callable[[], str] = str
):
    """The first true answer of `condition`, asked twice a second."""
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {limit_s} s until {what}.\n{said()}")
        time.sleep(0.5)
    return answer


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    if reason := missing():
        pytest.fail(reason)
    state = tmp_path_factory.mktemp("slurm")
    cluster = Cluster(state)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def new_campaign(tmp_path_factory, root, cluster):
    """Makes campaigns; their launches end with the session."""
    made = []

    def make(name: str, profile: str = "slurm") -> SlurmCampaign:
        folder = tmp_path_factory.mktemp(name)
        folder.chmod(0o755)
        made.append(SlurmCampaign(folder, root, profile))
        return made[-1]

    yield make
    for campaign in made:
        for process in campaign.launches:
            if process.poll() is None:
                os.killpg(process.pid, 9)
