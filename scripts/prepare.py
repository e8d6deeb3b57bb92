"""On the login node, before the first launch: environment, models, structures and profile; nothing is left for a job to fetch.

A model that is missing is fetched if config/models.yaml states its url and SHA-256; all other things are said.
"""

import io
import logging
import os
import shutil
import sys
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import yaml
from arguments import limit_threads
from ionraman.campaign import load_campaign
from ionraman.readiness import NotReady, offline, package_problems, provide_model
from ionraman.settings import ConfigError, load_models, load_settings
from layers import launch_config
from selection import command_parser, launch_arguments

limit_threads(1)
parser = command_parser(__doc__)
parser.add_argument(
    "--profile", default="profiles/local", help="where the jobs will run (default: profiles/local)"
)


def environment() -> list[str]:
    print(f"Environment: {sys.prefix}, Python {sys.version.split()[0]}")
    problems = package_problems(Path("envs/requirements.txt"))
    return [f"Environment: {'; '.join(problems)}. Run scripts/campaign setup."] if problems else []


def models(config: dict) -> list[str]:
    settings, problems = load_settings(config)
    if problems:
        return problems
    listed, problems = load_models(Path(settings.models.file), settings.models.file), []
    for kind in ("force", "alpha"):
        name = getattr(settings.models, kind)
        entry = getattr(listed, kind).get(name)
        if entry is None:
            continue  # the check of the configuration says it
        try:
            sha256 = provide_model(kind, name, entry, Path.cwd(), settings.models.file)
            stated = "as stated" if entry.sha256 else "none stated: nothing to compare with"
            print(f"Model {kind}: {name}, {entry.path}, SHA-256 {sha256} ({stated})")
        except NotReady as error:
            problems.append(f"Model {kind}: {error}")
    return problems


def evaluation(campaign) -> list[str]:
    """Load both models and evaluate one cell of their elements, without a network."""
    try:
        # Libraries warn at length about what a job does not need.
        with (
            offline(),
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            from ase import Atoms
            from ionraman import polarizability, potentials

            force, alpha = (campaign.models[kind] for kind in ("force", "alpha"))
            potential = potentials.load(force.path, force.sha256)
            atoms = Atoms(potential.elements[:1] * 2, [[0, 0, 0], [1.5, 1.5, 1.5]], cell=[3, 3, 3], pbc=True)
            atoms.calc = potential.calculator("cpu", "float32")
            atoms.get_forces()
            polarizability.load(alpha.path, sha256=alpha.sha256)  # evaluates it: a check of its symmetries
        print("Models: both were loaded and evaluated with the network shut.")
    except Exception as error:  # whatever stops it would stop a job
        return [f"Models: {' '.join(str(error).split()) or type(error).__name__}"]
    return []


def structures(campaign) -> list[str]:
    from ionraman.survey import survey

    found = survey(campaign, Path.cwd())
    notes = {row.run[0]: row.note for row in found.rows if row.note.startswith(("invalid", "unsupported"))}
    print(
        f"Structures: {len(campaign.candidates) - len(notes)} of {len(campaign.candidates)} candidates will run."
    )
    for name, note in notes.items():
        print(f"    {name}: {note}")
    return [] if len(notes) < len(campaign.candidates) else ["Structures: none can run."]


def profile(folder: Path) -> list[str]:
    file = next(
        (folder / name for name in ("config.yaml", "config.v8+.yaml") if (folder / name).exists()), None
    )
    if file is None:
        return [f"Profile: {folder} holds no config.yaml."]
    executor = yaml.safe_load(file.read_text()).get("executor", "local")
    problems = []
    if executor != "local" and find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        problems.append(f"Profile: the Snakemake plugin of the executor {executor} is not installed.")
    if executor == "slurm":
        problems += [
            f"Profile: {name} is not in PATH." for name in ("sbatch", "squeue") if shutil.which(name) is None
        ]
    print(f"Profile: {folder}, executor {executor}")
    return problems


def results(folder: Path) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return [
            f"Results: {folder} cannot be written ({error.strerror}); set `results` in the configuration."
        ]
    print(
        f"Results: {folder.resolve()}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free; it must be seen by all nodes."
    )
    return []


def main() -> int:
    arguments = parser.parse_args()
    problems = environment()
    try:
        config = launch_config(launch_arguments(arguments))
        problems += models(config)
        campaign = load_campaign(config, Path.cwd())
    except ConfigError as error:
        problems += [str(error)]
    else:
        problems += evaluation(campaign) + structures(campaign) + results(campaign.folder)
    problems += profile(Path(arguments.profile))
    if problems:
        print("\nMissing or wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))
        return 1
    kinds = Counter(candidate.structure.rpartition(".")[2] for candidate in campaign.candidates)
    print(
        f"Ready: nothing is left to fetch ({', '.join(f'{count} {kind}' for kind, count in kinds.items())} files read)."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
