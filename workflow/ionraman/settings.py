"""The definition of config.yaml and models.yaml: every key with its unit, type, bounds and default.

The JSON schema in workflow/schemas is exported from here. Parsing is strict: a key that is not defined here,
a string where a number belongs, or a value out of bounds is a problem, and all problems are reported at once.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ionraman.problems import ConfigError, choice, sentences

Scalar = int | float | str | bool | None

SAFE_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._+-]*[A-Za-z0-9_+-])?$"
"""Names become folders: letters, digits, . _ + -, starting with a letter or digit, not ending with a dot."""

PICKLED = (".model", ".pt", ".pth")
"""Suffixes of model files that run code when they are read."""

OVERRIDABLE = ("structure", "dynamics", "polarizability")
"""Groups whose keys a row of the table may override. The marker and the models are the same for all rows,
because values of other windows, lasers or models could not be ranked together."""


class Group(BaseModel):
    """Base of all groups of keys: unknown keys, converted types, NaN and infinity are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True
    )


def _distinct(temperatures: list[float]) -> list[float]:
    """Refuse temperatures whose folders, f"{T:g}", would coincide or misstate T."""
    seen: set[str] = set()
    for value in temperatures:
        text = f"{value:g}"
        if float(text) != value:
            raise ValueError(f"found {value!r}; allowed: at most six significant digits")
        if text in seen:
            raise ValueError(f"found {text} twice; allowed: each temperature once")
        seen.add(text)
    return temperatures


SafeName = Annotated[
    str,
    Field(
        pattern=SAFE_NAME,
        max_length=80,
        json_schema_extra={
            "$comment": "letters, digits and . _ + -, starting with a letter or digit, at most 80 characters"
        },
    ),
]
RelativePath = Annotated[
    str,
    Field(pattern=r"^[^/~\\\s][^\\]*$", json_schema_extra={"$comment": "a path relative to the project"}),
]
FolderPath = Annotated[
    str,
    Field(
        pattern=r"^[^~\\\s][^\\]*$",
        json_schema_extra={"$comment": "a path, absolute or relative to the project"},
    ),
]
Sha256 = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{64}$", json_schema_extra={"$comment": "64 hexadecimal digits, small letters"}),
]
Temperature = Annotated[float, Field(ge=1, le=5000)]
Temperatures = Annotated[list[Temperature], AfterValidator(_distinct)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Select(Group):
    names: list[str] = Field([], description="candidates to run, by name; with tags also empty: all rows")
    tags: list[str] = Field([], description="candidates to run, by tag, in addition to names")


class Models(Group):
    file: RelativePath = Field("config/models.yaml", description="list of the models")
    force: str = Field("small", description="name of the force field in the list")
    alpha: str = Field("small", description="name of the polarizability model in the list")


class Structure(Group):
    min_image_A: float = Field(11.0, gt=0, le=100, description="shortest distance between periodic images, A")
    max_atoms: int = Field(64, ge=1, le=100_000, description="most atoms in a cell")
    allow_charged: bool = Field(False, description="accept a cell whose formal charges do not add up to 0")
    seed: Seed = Field(1, description="seed of the ordering and of the placement of carriers")


class Dynamics(Group):
    timestep_fs: float = Field(2.0, gt=0, le=5, description="time step, fs; at most 0.5 with hydrogen")
    sampling_fs: float = Field(
        10.0, gt=0, le=10, description="interval of stored frames, fs; whole time steps"
    )
    relax_steps: int = Field(300, ge=0, description="most steps of the relaxation")
    relax_fmax_eV_A: float = Field(0.02, gt=0, le=1, description="largest force left by the relaxation, eV/A")
    npt_ps: float = Field(10.0, ge=0.02, description="equilibration at the temperature and zero pressure, ps")
    npt_limit_ps: float = Field(
        10.0, ge=0, description="end of an equilibration whose cell has not settled, ps"
    )
    nvt_ps: float = Field(2.0, ge=0.2, description="equilibration of the replicas in the mean cell, ps")
    production_ps: float = Field(40.0, ge=0.2, description="length of each replica, ps")
    replicas: int = Field(
        4, ge=1, le=1000, description="independent production runs; intervals need 3, better 5"
    )
    thermostat_tau_ps: float = Field(0.2, gt=0, description="relaxation time of the thermostat, ps")
    barostat_tau_ps: float = Field(1.0, gt=0, description="relaxation time of the barostat, ps")
    checkpoint_ps: float = Field(2.0, gt=0, description="simulated time between checkpoints, ps")
    seed: Seed = Field(1, description="seed of velocities and thermostats")

    # Rules between keys stand on the later key, so that they are checked whatever else is wrong.
    @field_validator("sampling_fs")
    @classmethod
    def _whole_steps(cls, sampling_fs: float, info: ValidationInfo) -> float:
        if timestep_fs := info.data.get("timestep_fs"):
            steps = sampling_fs / timestep_fs
            if round(steps) < 1 or abs(steps - round(steps)) > 1e-6:
                raise ValueError(
                    f"found {sampling_fs:g} with timestep_fs {timestep_fs:g}; "
                    "allowed: a whole multiple of timestep_fs"
                )
        return sampling_fs

    @field_validator("npt_limit_ps")
    @classmethod
    def _after_npt(cls, npt_limit_ps: float, info: ValidationInfo) -> float:
        if npt_limit_ps < info.data.get("npt_ps", 0):
            raise ValueError(f"found {npt_limit_ps:g}; allowed: at least npt_ps, {info.data['npt_ps']:g}")
        return npt_limit_ps


class Polarizability(Group):
    batch_atoms: int | None = Field(
        None, ge=1, description="most atoms evaluated at once; null: chosen for the device"
    )


class Raman(Group):
    laser_nm: float = Field(785.0, ge=200, le=2000, description="wavelength of the laser, nm")
    nu1_cm: float = Field(5.0, gt=0, le=1000, description="lower edge of the marker's window, cm^-1")
    nu2_cm: float = Field(50.0, gt=0, le=5000, description="upper edge of the marker's window, cm^-1")

    @field_validator("nu2_cm")
    @classmethod
    def _above_nu1(cls, nu2_cm: float, info: ValidationInfo) -> float:
        if nu2_cm <= info.data.get("nu1_cm", 0):
            raise ValueError(f"found {nu2_cm:g}; allowed: more than nu1_cm, {info.data['nu1_cm']:g}")
        return nu2_cm


class Ranking(Group):
    key: Literal["pareto", "I_low", "D"] = Field("pareto", description="what the candidates are ordered by")


class Compute(Group):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where models are evaluated")
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of the models")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of one job")
    pack_size: int = Field(2, ge=1, le=10_000, description="most runs (candidate, temperature) in one job")
    pack_hours: float | None = Field(
        None,
        gt=0,
        description="most hours that the dynamics of the runs in one job may take by the estimate (a longer run is alone in its job); "
        "null: no limit",
    )
    atom_steps_per_s: float | None = Field(
        None,
        gt=0,
        description="speed of the dynamics, atoms times steps per second, for the time that a cluster job asks for; "
        "null: a cautious value for the device",
    )


class Budget(Group):
    gpu_hours: float | None = Field(
        None, gt=0, description="most hours of all jobs on the device; a launch that needs more is refused"
    )
    disk_GB: float | None = Field(None, gt=0, description="most disk of the finished campaign, GB")


class Settings(Group):
    """config.yaml."""

    campaign: SafeName = Field("demo", description="name of the campaign and of its folder in results")
    results: FolderPath = Field("results", description="folder of all campaigns; absolute where it is on another disk")
    candidates: RelativePath = Field("config/candidates.tsv", description="the candidate table")
    select: Select = Field(default_factory=Select, description="rows of the table that are run")
    models: Models = Field(default_factory=Models, description="force field and polarizability model")
    temperatures_K: Temperatures = Field([900.0], min_length=1, description="temperatures, K")
    reference_temperature_K: Temperature = Field(900.0, description="temperature of the ranking, K")
    confidence: float = Field(0.95, ge=0.5, le=0.999, description="two-sided confidence of every interval")
    structure: Structure = Field(default_factory=Structure, description="simulation cells")
    dynamics: Dynamics = Field(default_factory=Dynamics, description="molecular dynamics")
    polarizability: Polarizability = Field(default_factory=Polarizability, description="polarizability")
    raman: Raman = Field(default_factory=Raman, description="spectrum and marker")
    ranking: Ranking = Field(default_factory=Ranking, description="ranking")
    compute: Compute = Field(default_factory=Compute, description="hardware and jobs")
    walltime_min: int = Field(
        1440, ge=1, le=100_000, description="most minutes of a cluster job; a longer run goes on in the next job"
    )
    budget: Budget = Field(default_factory=Budget, description="limits that stop a launch; null: none")
    training: dict[str, Any] | None = Field(
        None, description="models to train with scripts/campaign train; its keys: training.schema.json"
    )


class ModelEntry(Group):
    """One model of models.yaml."""

    path: RelativePath = Field(description="file or folder of the model")
    sha256: Sha256 | None = Field(None, description="SHA-256 of the file; required for a pickled file")
    licence: str = Field(min_length=1, description="licence of the weights")
    url: str | None = Field(None, description="where to get the file; nothing is downloaded")


class ModelList(Group):
    """models.yaml: models by kind and name."""

    force: dict[str, ModelEntry] = Field(default_factory=dict, description="interatomic potentials")
    alpha: dict[str, ModelEntry] = Field(default_factory=dict, description="polarizability models")


def select_model(
    entries: ModelList, kind: str, name: str, file: str, root: Path
) -> tuple[ModelEntry | None, list[str]]:
    """The entry that a campaign uses, with what is wrong with it: unknown name, missing file, pickle without
    SHA-256."""
    listed = getattr(entries, kind)
    if name not in listed:
        return None, [
            f"config, models.{kind}: found {name!r}; allowed: {choice(list(listed), name)} "
            f"(the list is {file})."
        ]
    entry, problems = listed[name], []
    if not (root / entry.path).exists():
        source = f"get it from {entry.url}" if entry.url else "put it there"
        problems.append(f"{file}, {kind}.{name}.path: the file {entry.path} does not exist; {source}.")
    if entry.path.endswith(PICKLED) and entry.sha256 is None:
        problems.append(
            f"{file}, {kind}.{name}.sha256: found null; allowed: the SHA-256 of {entry.path}, because "
            "reading a pickled model runs code (sha256sum FILE prints it; state it only if you trust the "
            "source)."
        )
    return entry, problems


def load_settings(config: dict[str, Any]) -> tuple[Settings, list[str]]:
    """Settings of the merged configuration, and one sentence for each wrong key.

    A wrong key has its default in the settings returned, so that the table can still be checked against the
    others.
    """
    problems: list[str] = []
    wrong: set[str | int] = set()
    pruned = copy.deepcopy(config)
    try:
        settings = Settings.model_validate(pruned)
    except ValidationError as error:
        problems = sentences(error, Settings, "config")
        for item in error.errors():
            wrong.add(item["loc"][0])
            _prune(pruned, item["loc"])
        settings = Settings.model_validate(pruned)
    if settings.reference_temperature_K not in settings.temperatures_K and not wrong & {
        "temperatures_K",
        "reference_temperature_K",
    }:
        listed = ", ".join(f"{temperature:g}" for temperature in settings.temperatures_K)
        problems.append(
            f"config, reference_temperature_K: found {settings.reference_temperature_K:g}; allowed: one of "
            f"temperatures_K ({listed})."
        )
    return settings, problems


def _prune(config: dict[str, Any], location: tuple[str | int, ...]) -> None:
    """Remove the top-level key or the key of a group at `location`."""
    group = config.get(location[0])
    if len(location) > 1 and isinstance(group, dict):
        group.pop(location[1], None)
    else:
        config.pop(location[0], None)


def load_models(file: Path, name: str) -> ModelList:
    """models.yaml, called `name` in messages.

    Raises:
        ConfigError: missing, not YAML, or not of this layout.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return ModelList.model_validate({} if content is None else content)
    except OSError as error:
        raise ConfigError(
            [f"config, models.file: {name} cannot be read ({error.strerror}); allowed: an existing file."]
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            [f"config, models.file: {name} is not valid YAML ({' '.join(str(error).split())})."]
        ) from None
    except ValidationError as error:
        raise ConfigError(sentences(error, ModelList, name)) from None
