"""The block `training` of a configuration: what is sampled, labelled, fitted and asked of a model before it is registered.

Every key has its unit, bounds and default here; the schema in workflow/schemas is exported from this definition.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ionraman.problems import ConfigError, sentences
from ionraman.settings import (
    Group,
    RelativePath,
    SafeName,
    Scalar,
    Seed,
    Temperature,
)

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
AnyPath = Annotated[str, Field(min_length=1)]


class Material(Group):
    """One crystal in one cell; a crystal may occur several times, in cells of different size."""

    name: SafeName = Field(description="name of the material in data and tables")
    candidate: str = Field(description="row of the candidate table that names structure and mobile ion")
    carriers: str | None = Field(None, description="recipe of the carriers; null: that of the row")
    max_atoms: int = Field(16, ge=1, le=2000, description="most atoms in the cell")
    min_image_A: float = Field(6.0, gt=0, le=50, description="wanted shortest image distance, A")
    cell_seed: Seed = Field(1, description="seed of the ordering and of the sites of the carriers")
    force_labels: int = Field(
        40, ge=0, description="force labels of the first generation, held-out ones included"
    )
    alpha_labels: int = Field(12, ge=0, description="polarizability labels of the first generation")
    ions_displaced: int = Field(
        0, ge=0, description="configurations with one ion displaced (always held out); at least 5 in 32 atoms"
    )
    modes_displaced: int = Field(
        0,
        ge=0,
        description="Gamma modes, those of lowest wavenumber, along which the relaxed cell is displaced up and down, two labels each (always held out)",
    )

    @property
    def displaced(self) -> int:
        """Polarizability labels of single ions (and the cell that they are compared with) and of modes."""
        return (self.ions_displaced + 1 if self.ions_displaced else 0) + 2 * self.modes_displaced


class Teacher(Group):
    """An ASE calculator that gives energies, forces and stress."""

    factory: str = Field(
        pattern=r"^[^:]+:[A-Za-z_]\w*$",
        description="module:function or file.py:function that returns the calculator",
        json_schema_extra={"$comment": "module:function or file.py:function"},
    )
    arguments: dict[str, Scalar] = Field(
        default_factory=dict, description="keyword arguments of the function"
    )
    python: str | None = Field(None, description="Python of the teacher's own environment; null: this one")
    level: str = Field(
        min_length=1, description="level of theory in words, with version; stored in every label"
    )
    stress: bool = Field(True, description="the calculator gives a stress")


class Sample(Group):
    start: str | None = Field(
        None,
        description="force field of the first generation's dynamics, of all where no force field is trained; a name in models.yaml; null: the teacher",
    )
    temperatures_K: list[Temperature] = Field(
        [300.0, 600.0, 900.0], min_length=1, description="temperatures, K"
    )
    expansions: list[Annotated[float, Field(gt=-0.2, lt=0.3)]] = Field(
        [0.0, 0.02], min_length=1, description="relative changes of the cell's lengths"
    )
    repeats: int = Field(1, ge=1, description="trajectories of each temperature and expansion")
    length_ps: float = Field(1.0, gt=0, description="length of a trajectory after equilibration, ps")
    equilibration_ps: float = Field(0.2, ge=0, description="discarded beginning, ps")
    interval_fs: float = Field(50.0, gt=0, description="interval of the frames to choose from, fs")
    timestep_fs: float = Field(2.0, gt=0, le=5, description="time step, fs; at most 0.5 with hydrogen")
    rattle_A: list[Positive] = Field([0.03, 0.08, 0.14], description="amplitudes of the rattled cells, A")
    rattled: int = Field(4, ge=0, description="rattled and strained cells of each amplitude to choose from")
    rattle_relaxed: bool = Field(
        True, description="every second rattled cell is made around the cell that the dynamics' force field relaxes to"
    )
    strain: float = Field(0.02, ge=0, le=0.2, description="standard deviation of the strain of rattled cells")
    ion_displacement_A: float = Field(0.25, gt=0, le=2, description="displacement of single ions, A")
    mode_displacement_A: float = Field(
        0.05, gt=0, le=0.5, description="displacement of the atom that moves most in a Gamma mode, A"
    )
    choice: Literal["diverse", "even"] = Field(
        "diverse",
        description="frames to label: the most diverse ones, or the same number from each trajectory, far apart in time",
    )
    held_out: Share = Field(0.2, description="share of the trajectories that no fit sees")
    valid: Share = Field(
        0.1, description="share of the trajectories that only decides when a force fit is best"
    )
    seed: Seed = Field(1, description="seed of velocities, rattling and the split")

    @field_validator("repeats")
    @classmethod
    def _three_trajectories(cls, repeats: int, info: ValidationInfo) -> int:
        count = (
            repeats * len(info.data.get("temperatures_K", [0] * 3)) * len(info.data.get("expansions", [0]))
        )
        if count < 3:
            raise ValueError(
                f"found {repeats}, which makes {count} trajectories a material; allowed: at least 3 (temperatures_K x "
                "expansions x repeats), because fit, choice of the best epoch and test need trajectories of their own"
            )
        return repeats


class Espresso(Group):
    """Polarizability labels from Quantum ESPRESSO: pw.x, then ph.x with the electric field."""

    pseudopotentials: AnyPath = Field(description="folder of UPF files")
    files: dict[str, str] = Field(
        default_factory=dict, description="file of an element, where it is not ELEMENT.UPF"
    )
    functional: str = Field("PBE", description="exchange-correlation functional of the pseudopotentials")
    ecutwfc_Ry: float = Field(30.0, ge=5, le=500, description="plane-wave cutoff, Ry")
    k_length_A: float = Field(
        14.0,
        gt=0,
        description="k-points along a vector: the fewest that make points times plane spacing reach this, A",
    )
    k_shifted: bool = Field(
        True, description="shift the grid by half a step (cheaper and more exact in small cells)"
    )
    conv_thr: float = Field(1e-9, gt=0, description="pw.x: energy threshold of self-consistency, Ry")
    mixing_beta: float = Field(0.5, gt=0, le=1, description="pw.x: mixing")
    tr2_ph: float = Field(
        1e-10,
        gt=0,
        description="ph.x: threshold of self-consistency; 1e-9 leaves eps 0.005 to 0.009 off, too much where single ions are displaced",
    )
    pw: str = Field("pw.x", min_length=1, description="command of pw.x, with mpirun where wanted")
    ph: str = Field("ph.x", min_length=1, description="command of ph.x")
    per_job: int = Field(1, ge=1, description="configurations of one job")


class Import(Group):
    """Labels that a group has already: a VASP OUTCAR (LEPSILON) or extended XYZ with alpha_A3 or epsilon, or REF_*."""

    file: AnyPath = Field(description="OUTCAR or extxyz file")
    kind: Literal["force", "alpha"] = Field(description="what the labels are")
    material: SafeName | None = Field(
        None, description="name of the material; null: what each frame's info says under material or system"
    )
    level: str = Field(
        min_length=1, description="level of theory; equal to that of all other labels of its kind"
    )
    held_out: bool = Field(
        False, description="keep these labels out of every fit (frames whose info says split=test are kept out in any case)"
    )


class Checks(Group):
    asymmetry: float = Field(0.02, gt=0, description="largest |eps - eps^T| of a polarizability label")
    unit_factor: float = Field(3.0, gt=1, description="largest ratio of a label to the rest of its set")
    energy_eV_atom: float = Field(
        2.0, gt=0, description="largest deviation from the median of a composition, eV/atom"
    )
    rotation_factor: float = Field(
        2.2,
        gt=1,
        description="a tensor is suspected of a turn if its relative residual is so many times the set's median",
    )


class ForceFit(Group):
    """mace_run_train for the force field."""

    foundation: str | None = Field(
        None, description="force field to fine-tune, a name in models.yaml; null: from scratch"
    )
    members: int = Field(
        1, ge=1, le=10, description="fits that differ in their seed; the active loop needs 2"
    )
    channels: int = Field(16, ge=1, description="channels")
    max_L: int = Field(0, ge=0, le=3, description="highest order of messages")
    layers: int = Field(2, ge=1, le=4, description="interactions")
    correlation: int = Field(2, ge=1, le=4, description="correlation order")
    max_ell: int = Field(2, ge=0, le=4, description="highest order of the edges' spherical harmonics")
    r_max: float = Field(5.0, gt=0, le=12, description="cutoff, A")
    epochs: int = Field(200, ge=1, description="epochs")
    batch_size: int = Field(4, ge=1, description="configurations in a batch")
    learning_rate: float = Field(0.01, gt=0, description="learning rate")
    lr_factor: float = Field(0.98, gt=0, le=1, description="factor on the learning rate after each epoch")
    energy_weight: float = Field(1.0, ge=0, description="weight of energies")
    forces_weight: float = Field(50.0, ge=0, description="weight of forces")
    stress_weight: float = Field(1000.0, ge=0, description="weight of stress")
    material_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="weight of the training frames of a material, 1 if it is not named",
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of the fit")
    options: dict[str, Scalar] = Field(
        default_factory=dict, description="other options of mace_run_train, by name"
    )


class AlphaFit(Group):
    """Ensemble of physical models, of AtomicDielectricMACE, or of both, the networks fitted to what the physical models leave."""

    members: int = Field(3, ge=2, le=20, description="members of the ensemble")
    channels: int = Field(16, ge=1, description="channels")
    layers: int = Field(1, ge=1, le=3, description="interactions")
    correlation: int = Field(2, ge=1, le=4, description="correlation order")
    max_ell: int = Field(2, ge=2, le=4, description="highest order of the edges' spherical harmonics")
    r_max: float = Field(6.0, gt=0, le=12, description="cutoff, A (5 A and less was much worse)")
    radial: int = Field(32, ge=4, description="width of the radial network")
    epochs: int = Field(80, ge=1, description="epochs")
    batch_size: int = Field(6, ge=1, description="configurations in a batch")
    learning_rate: float = Field(0.01, gt=0, description="highest learning rate")
    weight_decay: float = Field(1e-3, ge=0, description="weight decay")
    physical: bool = Field(
        True,
        description="fit physical models, bond polarizabilities in dipole fields, and the networks to what they leave",
    )
    tensors: list[AnyPath] = Field(
        [], description="extxyz files of scripts/training/raman_tensors.py: Raman tensors that the physical models follow beside the labels"
    )
    networks: bool = Field(True, description="fit networks; off: the physical models alone, which few labels are enough for")

    @model_validator(mode="after")
    def _something(self) -> AlphaFit:
        if not (self.physical or self.networks):
            raise ValueError("found physical and networks both off; allowed: one of them, at least")
        return self


class Fit(Group):
    pieces: int = Field(4, ge=1, le=100, description="jobs that a fit is cut into at most")
    piece_minutes: float = Field(100.0, gt=0, description="longest time of one of them, minutes")


class Active(Group):
    generations: int = Field(
        1, ge=1, le=20, description="rounds of sampling, labelling and fitting; 1: no active loop"
    )
    force_labels: int = Field(20, ge=0, description="force labels of a material in each later round")
    alpha_labels: int = Field(6, ge=0, description="polarizability labels of a material in each later round")


class Curve(Group):
    shares: list[Share] = Field(
        [0.25, 0.5], description="shares of the labels that the learning curve is fitted to"
    )
    repeats: int = Field(2, ge=1, le=10, description="random choices of each share")


class Validate(Group):
    """Largest values that a model may show and still be registered."""

    force_rmse_meV_A: float = Field(
        40.0, gt=0, description="force error on held-out frames, every material, meV/A"
    )
    energy_rmse_meV_atom: float = Field(5.0, gt=0, description="energy error, meV/atom")
    stress_rmse_GPa: float = Field(0.2, gt=0, description="stress error, GPa")
    lattice_percent: float = Field(0.5, gt=0, description="error of the relaxed lattice constants, per cent")
    phonon_rmse_cm: float = Field(15.0, gt=0, description="error of the Gamma phonons, cm^-1")
    phonon_max_atoms: int = Field(64, ge=0, description="phonons of cells up to this size; 0: none")
    nve_ps: float = Field(5.0, gt=0, description="length of the NVE run, ps")
    nve_drift_meV_atom: float = Field(1.0, gt=0, description="drift of the energy in it, meV/atom")
    nvt_ps: float = Field(10.0, gt=0, description="length of the NVT runs, ps")
    nvt_temperatures_K: list[Temperature] = Field([300.0, 600.0, 900.0], description="their temperatures, K")
    run_atoms: int = Field(
        60, ge=1, description="cells are repeated to at least so many atoms for these runs"
    )
    isotropic: float = Field(
        0.15, gt=0, description="error of tr(alpha)/3 over its thermal standard deviation"
    )
    anisotropic: float = Field(0.20, gt=0, description="error of the anisotropic part over its thermal size")
    intensity: float = Field(
        0.15, gt=0, description="error of the integrated Raman intensity of held-out frames, relative"
    )
    ion_response: float = Field(
        0.3, gt=0, description="error of the change of alpha by one displaced ion, relative"
    )
    mode_intensity: float = Field(
        0.3, gt=0, description="error of the first-order Raman intensity at 300 K of the displaced modes together, relative"
    )
    reference_alpha: str | None = Field(
        None,
        description="larger polarizability model, a name in models.yaml, whose I_low along a trajectory the trained one must give; null: not checked",
    )
    reference_ps: float = Field(
        20.0, ge=7, description="length of that trajectory at the lowest of nvt_temperatures_K, ps (7 ps resolve 50 cm^-1)"
    )
    reference_intensity: float = Field(0.3, gt=0, description="error of I_low against the larger model, relative")


class Training(Group):
    """The block `training`."""

    name: SafeName = Field(description="name of the models that are registered in models.yaml")
    materials: list[Material] = Field(min_length=1, description="crystals to train on")
    teacher: Teacher | None = Field(
        None, description="labels of energy, forces and stress; null: imported ones only"
    )
    teacher_per_job: int = Field(50, ge=1, description="force labels of one job")
    sample: Sample = Field(default_factory=Sample, description="configurations")
    espresso: Espresso | None = Field(None, description="polarizability labels; null: imported ones only")
    imports: list[Import] = Field([], description="labels that exist already")
    checks: Checks = Field(default_factory=Checks, description="what a label must satisfy")
    force: ForceFit = Field(default_factory=ForceFit, description="fit of the force field")
    alpha: AlphaFit = Field(default_factory=AlphaFit, description="fit of the polarizability ensemble")
    fit: Fit = Field(default_factory=Fit, description="jobs of the fits")
    active: Active = Field(default_factory=Active, description="active loop")
    curve: Curve = Field(default_factory=Curve, description="learning curve")
    validate_: Validate = Field(
        default_factory=Validate, alias="validate", description="conditions of registration"
    )
    folder: RelativePath = Field("models", description="folder that registered models are put into")
    licence: str = Field(min_length=1, description="licence of the weights, for card and models.yaml")

    @field_validator("materials")
    @classmethod
    def _distinct(cls, materials: list[Material]) -> list[Material]:
        names = [material.name for material in materials]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"found {', '.join(twice)} twice; allowed: each name once")
        return materials

    @property
    def kinds(self) -> list[str]:
        """What is fitted: 'force' and 'alpha', where there is a source of labels."""
        sources = {"force": self.teacher, "alpha": self.espresso}
        imported = {item.kind for item in self.imports}
        return [kind for kind, source in sources.items() if source is not None or kind in imported]

    def digest(self, *groups: str, material: str | None = None) -> str:
        """Short digest of some groups and of one material: a scalar that changes where what a rule depends on changes."""
        content = self.model_dump(mode="json", by_alias=True, include=set(groups))
        if material is not None:
            content["material"] = self.material(material).model_dump(mode="json")
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def material(self, name: str) -> Material:
        """The material of that name (KeyError if there is none)."""
        return {material.name: material for material in self.materials}[name]

    def labels(self, kind: str, material: str, generation: int) -> int:
        """Labels of a kind ('force' or 'alpha') that a round asks for, cells displaced along ions and modes included."""
        if (self.teacher if kind == "force" else self.espresso) is None:
            return 0
        own = self.material(material)
        if generation:
            return getattr(self.active, f"{kind}_labels") if getattr(own, f"{kind}_labels") else 0
        return getattr(own, f"{kind}_labels") + (own.displaced if kind == "alpha" else 0)

    def chunks(self, kind: str, material: str, generation: int) -> int:
        """Jobs that these labels are cut into."""
        size = self.teacher_per_job if kind == "force" else (self.espresso.per_job if self.espresso else 1)
        return -(-self.labels(kind, material, generation) // size)


def load_training(config: dict[str, Any]) -> Training:
    """The block `training` of a merged configuration.

    Raises:
        ConfigError: it is missing, or one sentence for each wrong key.
    """
    block = config.get("training")
    if block is None:
        raise ConfigError(
            [
                "config, training: missing; allowed: a block that names materials and labels (docs/training.md)."
            ]
        )
    try:
        training = Training.model_validate(block)
    except ValidationError as error:
        raise ConfigError(sentences(error, Training, "config", "training.")) from None
    problems = []
    again = training.active.generations > 1
    if again and training.teacher is None and training.espresso is None:
        problems.append(
            "config, training.active.generations: found more than 1 and neither teacher nor espresso; allowed: 1, because nothing "
            "labels what a later generation finds."
        )
    if again and training.teacher and training.active.force_labels and training.force.members < 2:
        problems.append(
            "config, training.force.members: found 1 with more than one generation; allowed: at least 2, whose "
            "disagreement chooses the frames."
        )
    if not training.kinds:
        problems.append(
            "config, training: found neither teacher nor espresso nor imports; allowed: a source of labels, at least."
        )
    if training.teacher is None and training.espresso and training.sample.start is None:
        problems.append(
            "config, training.sample.start: found null and no teacher; allowed: a force field of models.yaml that runs the "
            "dynamics."
        )
    if problems:
        raise ConfigError(problems)
    return training
