# The candidate table, one lookup for settings, and the packs. Values that rules pass on are scalars, so that adding a row or
# changing a key reruns only what depends on it.

import os
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    from ionraman import resources
    from ionraman.campaign import load_campaign, read_snapshot, write_record, write_snapshot
    from ionraman.digests import model_sha256
    from ionraman.packs import plan_packs
    from ionraman.settings import ConfigError
    from ionraman.survey import idle_runs, model_elements
except ImportError as error:
    raise WorkflowError(
        f"The package ionraman cannot be imported ({error}): start with scripts/campaign, or install it (pip install -e .)."
    ) from None

ROOT = Path(workflow.basedir)

SNAPSHOT = os.environ.get("IONRAMAN_SNAPSHOT", "")

if SNAPSHOT and not workflow.is_main_process:  # a job: what its launch decided on, whatever was edited since
    CAMPAIGN, PACKS, IDLE, MODEL_SHA256 = read_snapshot(Path(SNAPSHOT))
    FOLDER = f"{CAMPAIGN.settings.results}/{CAMPAIGN.settings.campaign}"
else:
    try:
        CAMPAIGN = load_campaign(config, ROOT)
        FOLDER = f"{CAMPAIGN.settings.results}/{CAMPAIGN.settings.campaign}"
        idle = idle_runs(CAMPAIGN, ROOT)
        PACKS = plan_packs(CAMPAIGN, Path(FOLDER) / "packs", idle=idle)
        IDLE = [pack for pack, members in PACKS.items() if idle.issuperset(members)]
        MODEL_SHA256 = {kind: entry.sha256 or model_sha256(ROOT / entry.path) for kind, entry in CAMPAIGN.models.items()}
        write_record(CAMPAIGN, PACKS, MODEL_SHA256, ROOT / FOLDER / "campaign.json")
        snapshot = write_snapshot(CAMPAIGN, PACKS, IDLE, MODEL_SHA256, ROOT / FOLDER / "launches")
        os.environ["IONRAMAN_SNAPSHOT"] = str(snapshot)
    except ConfigError as error:
        raise WorkflowError(str(error)) from None

PACK_OF = {run: pack for pack, members in PACKS.items() for run in members}
IDLE_PACK = "|".join(IDLE) or "none"  # packs of which it is known that they get no trajectory: no job asks for a GPU
BUSY_PACK = rf"(?!(?:{IDLE_PACK})\b)[0-9]+"
RUN = f"{FOLDER}/runs/{{candidate}}/{{temperature}}K"


wildcard_constraints:
    candidate="[^/]+",
    temperature=r"[0-9.e+]+",


def setting(candidate, key):
    """Value of a dotted key for a candidate (its row's override first), or of the campaign where that is None."""
    return CAMPAIGN.setting(candidate, key)


def settings_of(candidate, group, *keys):
    """Settings of one group as 'key=value key=value': one string, comparable between launches."""
    names = keys or type(getattr(CAMPAIGN.settings, group)).model_fields
    return " ".join(f"{name}={setting(candidate, f'{group}.{name}')}" for name in names)


def model(kind):
    """Path of the force field ('force') or the polarizability model ('alpha'), relative to the root."""
    return CAMPAIGN.models[kind].path


def run_folder(run):
    return f"{FOLDER}/runs/{run[0]}/{run[1]:g}K"


def pack_members(pack):
    """'candidate:temperature' of every wanted member of a pack."""
    return " ".join(shlex.quote(f"{name}:{temperature:g}") for name, temperature in PACKS[pack])


def pack_of(wildcards):
    return PACK_OF[wildcards.candidate, float(wildcards.temperature)]


# What a cluster job asks for; it never decides whether something runs again.


def pack_atoms(pack):
    """Atoms of a pack; of members whose cell is not built yet, the most that it may have."""
    counts = (resources.atoms_of(Path(FOLDER) / "structures" / name / "structure.json") for name, _ in PACKS[pack])
    return sum(
        setting(name, "structure.max_atoms") if count is None else count
        for count, (name, _) in zip(counts, PACKS[pack])
    )


def pack_steps(pack):
    """Steps of the stages of a pack's dynamics, whose settings all members share."""
    return resources.stage_steps(lambda key: setting(PACKS[pack][0][0], key))


def dynamics_minutes(pack):
    speed, step_s = resources.speed_of(CAMPAIGN.settings.compute)
    return resources.dynamics_minutes(
        pack_atoms(pack),
        pack_steps(pack),
        setting(PACKS[pack][0][0], "dynamics.replicas"),
        speed,
        CAMPAIGN.settings.walltime_min,
        resources.left_s(Path(FOLDER) / "packs" / pack),
        step_s,
    )


def polarizability_minutes(pack):
    name = PACKS[pack][0][0]
    frames = setting(name, "dynamics.production_ps") * 1000 / setting(name, "dynamics.sampling_fs")
    replicas = setting(name, "dynamics.replicas")
    return resources.polarizability_minutes(
        pack_atoms(pack), frames, replicas, resources.speed_of(CAMPAIGN.settings.compute)[0], CAMPAIGN.settings.walltime_min
    )


def pack_memory_mb(pack, stage):
    replicas = setting(PACKS[pack][0][0], "dynamics.replicas")
    return resources.memory_mb(pack_atoms(pack), replicas, Path(FOLDER) / "packs" / pack, stage)
