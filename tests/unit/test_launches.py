"""Launches: which campaign is meant, whether one is at work, and what becomes of the SLURM jobs that a killed one left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def launches(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import launches

    return launches


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with configurations, a SLURM profile, and a SLURM of two jobs that a cancellation ends."""
    for name, text in {
        "config/config.yaml": "campaign: demo\nresults: results\n",
        "mine.yaml": "campaign: mine\n",
        "elsewhere.yaml": "results: scratch\n",
        "profiles/local/config.yaml": "executor: local\n",
        "profiles/slurm/config.yaml": "executor: slurm\n",
        "profiles/scratch/config.yaml": "config:\n  - results=/scratch\n  - 'compute={device: cuda}'\n",
        "queue": "7|ionraman-old_uuid|RUNNING\n8|ionraman-old_uuid|PENDING\n9|other|RUNNING\n",
        "bin/squeue": "#!/bin/sh\ncat queue\n",
        "bin/scancel": '#!/bin/sh\necho "$@" > cancelled\ngrep other queue > rest; mv rest queue\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for program in ("squeue", "scancel"):
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ([], "results/demo"),
        (["--configfile", "mine.yaml", "elsewhere.yaml", "-n"], "scratch/mine"),
        (["--configfile=mine.yaml", "elsewhere.yaml"], "results/mine"),
        (["--configfile", "mine.yaml", "--config", "campaign=third"], "results/third"),
        (["--configfile", "mine.yaml", "--profile", "profiles/scratch"], "/scratch/mine"),
        (["--configfile", "mine.yaml", "--profile", "profiles/scratch", "--config", "campaign=third"], "results/third"),
    ],
)
def test_the_campaign_is_found_before_it_is_launched(launches, project, arguments, folder):
    assert launches.campaign_folder(arguments)[0] == Path(folder)


@pytest.mark.parametrize(
    ("arguments", "slurm"),
    [
        (["--profile", "profiles/slurm"], True),
        (["--profile=profiles/slurm"], True),
        (["--profile", "profiles/local"], False),
        (["--executor", "slurm"], True),
        (["--profile", "profiles/slurm", "--executor", "local"], False),
    ],
)
def test_jobs_are_named_after_the_launch_on_slurm(launches, project, arguments, slurm):
    launch = launches.Launch(arguments, Path("log"))
    assert launch.arguments() == (["--slurm-jobname-prefix", launch.name] if slurm else [])
    assert json.loads((project / "results/demo/launch.json").read_text())["name"] == launch.name


def test_a_second_launch_is_refused_while_the_first_lives(launches, project):
    first = launches.Launch([], Path("first.log"))
    with pytest.raises(SystemExit, match="first.log"):
        launches.Launch([], Path("second.log"))
    launches.Launch(["--configfile", "mine.yaml"], Path("other.log"))  # another campaign is not concerned
    first.end()
    launches.Launch([], Path("second.log"))


def killed(launches, project, **changes):
    """launch.json of a launcher that was killed."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    start = launches.process_start(process.pid)
    process.wait()
    launch = launches.Launch([], Path("old.log"))
    launch.record |= {"name": "ionraman-old", "processes": {process.pid: start}} | changes
    launches.write_json(launch.path, launch.record)


def test_jobs_of_a_killed_launch_are_cancelled(launches, project, capsys):
    killed(launches, project)
    launches.Launch(["--profile", "profiles/slurm"], Path("log"))
    assert (project / "cancelled").read_text().split() == ["7", "8"]
    assert "ionraman-old left 2 jobs" in capsys.readouterr().out


def test_or_waited_for(launches, project):
    killed(launches, project)
    (project / "bin/squeue").write_text(
        "#!/bin/sh\ncat queue\n[ -f asked ] && grep other queue > rest && mv rest queue\ntouch asked\n"
    )
    arguments = ["--profile", "profiles/slurm", "--old-jobs", "wait"]
    launches.Launch(arguments, Path("log"))
    assert (project / "cancelled").read_text().split() == ["8"]  # the running one ended by itself
    assert arguments == ["--profile", "profiles/slurm"]


def test_a_silent_scheduler_stops_the_launch(launches, project):
    killed(launches, project)
    (project / "bin/squeue").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    with pytest.raises(SystemExit, match="no controller"):
        launches.Launch(["--profile", "profiles/slurm"], Path("log"))


def test_a_launch_on_another_host_is_judged_by_its_signs_of_life(launches, project):
    killed(launches, project, machine="elsewhere", host="login2")
    with pytest.raises(SystemExit, match="on login2"):
        launches.Launch([], Path("log"))
    os.utime(project / "results/demo/launch.json", (0, 0))
    launches.Launch([], Path("log"))


def test_jobs_at_a_time_are_those_of_the_profile_or_the_command(project, launches):
    (project / "profiles/local/config.yaml").write_text("executor: local\ncores: 6\n")
    assert launches.local_jobs([], threads=2) == 3
    assert launches.local_jobs(["--cores", "2", "--configfile", "mine.yaml"], threads=1) == 2
    assert launches.local_jobs(["--cores", "all"], threads=1) == 1
    assert launches.local_jobs(["--profile", "profiles/slurm"], threads=1) == 1
