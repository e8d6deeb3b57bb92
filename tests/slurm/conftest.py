"""A SLURM cluster for the session, and campaigns of 8-atom cells that run on it through profiles/slurm."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ionraman.attempts import Attempt, read_attempts
from ionraman.trajectory import trajectory_store
from train.conftest import TRAINING
from workflow.conftest import Campaign

from .cluster import Cluster, missing

SHORT = {"npt_ps": 0.1, "nvt_ps": 0.2, "production_ps": 1.5, "replicas": 3, "checkpoint_ps": 0.1}

README_CAMPAIGN = {
    "campaign": "short",
    "select": {"names": ["Na3SbS4_cub", "NaCl", "Na3OCl"], "tags": []},  # no shipped model covers O
    "temperatures_K": [600],
    "reference_temperature_K": 600,
    "dynamics": SHORT | {"npt_limit_ps": 0.1},
    "raman": {"nu2_cm": 180},
    "compute": {"pack_size": 2},
}
"""In the place of config/campaign.yaml, which is too long for this machine."""


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

    def launch(self, *arguments: str, program: str = "scripts/run.py") -> subprocess.Popen:
        """Start a launcher in a session of its own; its output goes to launch<N>.txt."""
        self.write()
        self.text = self.folder / f"launch{len(self.launches)}.txt"
        command = [
            "env",
            "--default-signal=INT",  # which is ignored where the tests run in the background
            sys.executable,
            program,
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


class ReadmeRun:
    """The commands of the README's cluster section in a copy of the project; they run beside the other tests."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        for name in ("workflow", "scripts", "config", "envs", *(f"profiles/{name}" for name in ("local", "slurm", "slurm-preemptible"))):
            shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Snakefile", "pyproject.toml", ".python-version"):
            shutil.copy(root / name, folder / name)
        (folder / "config/campaign.yaml").write_text(yaml.safe_dump(README_CAMPAIGN))
        editor = folder / "editor.sh"
        editor.write_text(
            "#!/bin/sh\n"
            """sed -i "/MY_ACCOUNT/d; s/'MY_CPU'/'cpu'/; s/'MY_GPU'/'gpu'/; s/'MY_GPU_TYPE'/'h100'/; s/walltime_min=1440/walltime_min=60/"""
            """; s/device: cuda/device: cpu/" "$1"\n"""
        )
        editor.chmod(0o755)
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": str(folder / "workflow"),
            "OMP_NUM_THREADS": "1",
            "EDITOR": str(editor),
        }
        section = re.search(r"^## On a cluster\n(.*?)^## ", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL).group(1)
        lines = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
        assert [line for line in lines if line.startswith("tmux ")]  # which needs a terminal
        lines = [self.ready(line) for line in lines if not line.startswith("tmux ")]
        self.text = folder / "said.txt"
        with open(self.text, "w") as output:
            self.process = subprocess.Popen(
                ["sh", "-exc", "\n".join(lines)], cwd=folder, env=self.environment, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    @staticmethod
    def ready(line: str) -> str:
        """A command with the environment of the tests."""
        return line.replace("scripts/campaign", "scripts/campaign --no-setup")

    def end(self) -> tuple[int, str]:
        """Exit status and what was said, once it ended."""
        try:
            code = self.process.wait(1500)
        except subprocess.TimeoutExpired:
            code = -1
        logs = sorted(self.folder.glob("results/*.log")) + sorted(self.folder.glob("results/*/logs/*/*.log"))
        return code, "\n".join([self.text.read_text(), *(f"== {log}\n{log.read_text()[-3000:]}" for log in logs)][: 1 if code == 0 else None])


class TrainingRun:
    """A training of the two-atom cell of NaCl whose launcher is killed while labels are made and started again, beside the other tests."""

    PROGRAM = "scripts/train.py"

    def __init__(self, campaign: SlurmCampaign, cluster: Cluster) -> None:
        self.campaign, self.cluster, self.code, self.trouble = campaign, cluster, -1, ""
        campaign.add("NaCl", "structures/NaCl.cif")
        shutil.copytree(campaign.root / "tests/train/data/pseudo", campaign.folder / "pseudo")
        campaign.config["training"] = yaml.safe_load(yaml.safe_dump(TRAINING))
        campaign.config["training"]["materials"][0]["modes_displaced"] = 0  # the machinery is the same
        self.thread = threading.Thread(target=self._carry_through, daemon=True)
        self.thread.start()

    def _carry_through(self) -> None:
        try:
            first = self.campaign.launch(program=self.PROGRAM)
            wait_until(
                lambda: any(state == "RUNNING" for _, state in self.jobs("train_label")), "labels are made", said=self.campaign.said
            )
            os.killpg(first.pid, signal.SIGKILL)
            self.code = self.campaign.finish(self.campaign.launch(program=self.PROGRAM))
        except BaseException as error:  # the test tells it
            self.trouble = str(error)

    def jobs(self, rule: str) -> list[tuple[str, str]]:
        """Number and state of the jobs of a rule."""
        return [(job, state) for job, _, state, comment in self.cluster.jobs() if rule in comment]

    def end(self) -> tuple[int, str]:
        """Exit status of the second launch and what was said, once it ended."""
        self.thread.join(2200)
        return self.code, self.trouble or self.campaign.said()


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


@pytest.fixture(scope="session")
def readme(tmp_path_factory, root, cluster):
    """The commands of the README."""
    folder = tmp_path_factory.mktemp("readme")
    folder.chmod(0o755)
    run = ReadmeRun(folder, root)
    yield run
    if run.process.poll() is None:
        os.killpg(run.process.pid, 9)


@pytest.fixture(scope="session")
def training(new_campaign, cluster):
    """A training that is killed and launched again."""
    return TrainingRun(new_campaign("training"), cluster)


@pytest.fixture(scope="session", autouse=True)
def begun_early(request):
    """What waits most of its time begins with the first test."""
    for name in ("readme", "training"):
        if any(name in getattr(item, "fixturenames", ()) for item in request.session.items):
            try:
                request.getfixturevalue(name)
            except Exception as error:  # told by the tests that use it
                print(f"{name} was not started: {error}")
