"""Environment and entry of scripts/campaign, scripts/test and scripts/benchmark. Standard library only, Python >= 3.9."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = Path(os.environ.get("IONRAMAN_ENV", ROOT / ".venv"))

HELP = """\
scripts/campaign [options of Snakemake]     run the default campaign, config/config.yaml
    --configfile config/campaign.yaml       another campaign: an overlay of config/config.yaml
    --profile profiles/NAME                 where jobs run (default: profiles/local)
    -n                                      dry run: say what would be done
    --old-jobs wait|cancel                  SLURM jobs of a killed launcher: let running ones end, or cancel (default)
    --no-setup                              use the active Python environment as it is
scripts/campaign setup [--torch cpu|cu126|auto|...]   prepare the environment (the first run does it too)
scripts/campaign COMMAND --help             what a command takes; all know --configfile, those that launch also --profile:
    status [CAMPAIGN]                       candidate, stage, progress, state and last error, from the files
    prepare                                 on the login node: everything that a job needs is there, nothing is left to fetch
    check [--probe]                         before spending: what would run, for how long, and whether the budget holds it
    rerun NAME... | --failed                try again what failed; --from-scratch starts anew
    extend NAME... --ps P                   make the runs P picoseconds longer
    clean [--trajectories] [NAME...]        free the disk of what finished runs no longer need
    export [CAMPAIGN]                       one archive for a paper: tables, spectra, figures, methods, references
    compare A B                             two campaigns side by side
    train                                   train models: sample, label, fit, validate, register (docs/training.md)
scripts/test [unit|physics|workflow|browser|slurm|train|gpu|all]
scripts/benchmark [dynamics|polarizability|analysis|scale]
The environment lies in .venv, or where IONRAMAN_ENV says.
"""

COMMANDS = ("status", "prepare", "check", "rerun", "extend", "clean", "export", "compare", "train")
"""First words that are programs of scripts; all other arguments go to a launch."""

TESTS = {
    "unit": ["tests/unit"],
    "physics": ["tests/physics"],
    "workflow": ["tests/workflow"],
    "browser": ["tests/browser"],
    "train": ["tests/train"],
    "gpu": ["tests/gpu"],
    "": ["tests/unit", "tests/physics", "tests/workflow"],
}
SLURM = ["tests/slurm"]
PARALLEL = ["-n", "2", "--dist", "loadfile"]
"""Two files of tests at a time; the tests of a file share what they compute."""


def setup(torch: str | None, tests: bool) -> Path:
    """Create or bring up to date the environment; its Python. Nothing is done where it is up to date."""
    python = ENVIRONMENT / "bin" / "python"
    files = [
        ROOT / "envs" / name for name in (["requirements.txt", "test.txt"] if tests else ["requirements.txt"])
    ]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files) + str(ROOT).encode()).hexdigest()
    stamp = ENVIRONMENT / ("tests.sha256" if tests else "campaign.sha256")
    if torch is None and python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(
        f"Setting up {ENVIRONMENT} (once; about 7 GB with the CUDA build of torch, 1 to 5 minutes)",
        flush=True,
    )
    uv = find_uv()
    if not python.exists():
        run([uv, "venv", "--quiet", "--python", (ROOT / ".python-version").read_text().strip(), ENVIRONMENT])
    backend = ["--torch-backend", torch] if torch else []
    install = [uv, "pip", "install", "--quiet", "--python", python]
    run([*install, *backend, *(part for file in files for part in ("-r", file))])
    run([*install, "--no-deps", "--editable", ROOT])
    stamp.write_text(wanted)
    return python


def find_uv() -> Path:
    """uv of the system, or one of our own beside the environment."""
    if found := shutil.which("uv"):
        return Path(found)
    home = ENVIRONMENT.with_name(ENVIRONMENT.name + "-uv")
    uv = home / "bin" / "uv"
    if not uv.exists():
        venv.create(home, with_pip=True)
        run([home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"])
    return uv


def run(command: list) -> None:
    finished = subprocess.run([str(part) for part in command], cwd=ROOT)
    if finished.returncode:
        sys.exit(f"Setting up failed: {' '.join(map(str, command))} ended with {finished.returncode}.")


def test(python: Path, word: str, options: list[str]) -> None:
    """Run pytest; the tests on SLURM by themselves, because there is one cluster."""
    runs = []
    if word != "slurm":
        folders = [*TESTS[""], *TESTS["browser"], *TESTS["train"]] if word == "all" else TESTS[word]
        runs.append([*PARALLEL, *folders])
    if word in ("slurm", "all"):
        runs.append(SLURM)
    codes = [subprocess.run([python, "-m", "pytest", *run, *options]).returncode for run in runs]
    # A run that a signal ended has a negative code.
    sys.exit(next((code for code in codes if code), 0))


def option(arguments: list[str], name: str) -> str | None:
    """Take `name VALUE` out of the arguments."""
    if name not in arguments:
        return None
    place = arguments.index(name)
    if place + 1 == len(arguments):
        sys.exit(f"{name} needs a value.")
    value = arguments[place + 1]
    del arguments[place : place + 2]
    return value


def main(program: str, arguments: list[str]) -> None:
    if arguments[:1] in (["help"], ["--help"], ["-h"]):
        print(HELP, end="")
        return
    own_setup = "--no-setup" in arguments
    arguments = [argument for argument in arguments if argument != "--no-setup"]
    word = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if program == "test" and word not in (*TESTS, "slurm", "all"):
        sys.exit(f"scripts/test {word}: found {word!r}; allowed: {', '.join(filter(None, TESTS))}, slurm, all.")
    if own_setup:
        python = Path(shutil.which("python") or sys.executable)
    else:
        torch = option(arguments, "--torch") if word == "setup" else None
        python = setup(torch, tests=program == "test")
    # Rules call `python`: the environment comes first in PATH, and its location is no part of any command.
    os.environ["PATH"] = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    os.chdir(ROOT)
    if program == "benchmark":
        os.execv(python, [str(python), "scripts/benchmark.py", *arguments])
    if program == "test":
        test(python, word, arguments[1 if word else 0 :])
    if word == "setup":
        print(f"Ready: {python}")
    elif word in COMMANDS:
        os.execv(python, [str(python), f"scripts/{word}.py", *arguments[1:]])
    else:
        os.execv(python, [str(python), "scripts/run.py", *arguments])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
