# scripts/campaign train: cells -> configurations -> labels -> data sets -> fits -> errors, once per generation; then the
# learning curve, the validation, and the registration of what passed it. Labels, trajectories and fits are kept by their
# digests in undeclared folders (labels, fits, g*/*/trajectories): a job that starts again goes on from there.

import math

from ionraman.training.record import make_record as make_training, write_record as write_training

try:
    TRAINED = make_training(config, CAMPAIGN.settings, ROOT)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

TRAINING = TRAINED.training
TRAIN = f"{FOLDER}/training"
write_training(TRAINED, ROOT / TRAIN / "settings.json")
LAST = TRAINING.active.generations - 1
SHARES = {"1": {"force": TRAINING.force.members, "alpha": TRAINING.alpha.members}} | {
    f"{share:g}": dict.fromkeys(TRAINING.kinds, TRAINING.curve.repeats) for share in TRAINING.curve.shares
}


localrules:
    train,
    train_cells,
    train_collect,
    train_curve,
    train_register,


wildcard_constraints:
    generation=r"\d+",
    material="[^/]+",
    kind="force|alpha",
    chunk=r"\d+",
    share=r"[0-9.e-]+",
    number=r"\d+",
    piece=r"\d+",


def label_seals(generation):
    """Seals of all label jobs up to a generation."""
    return [
        f"{TRAIN}/g{g}/{material.name}/{kind}_{chunk}.json"
        for g in range(int(generation) + 1)
        for material in TRAINING.materials
        for kind in TRAINING.kinds
        for chunk in range(TRAINING.chunks(kind, material.name, g))
    ]


def fit_seals(generation):
    """Seals of the last pieces of all fits of a generation; the shares of the learning curve are those of the last."""
    return [
        f"{TRAIN}/g{generation}/fits/{kind}-{share}-{number}.p{TRAINING.fit.pieces}.json"
        for share, members in SHARES.items()
        if share == "1" or int(generation) == LAST
        for kind in TRAINING.kinds
        for number in range(members[kind])
    ]


def previous_piece(wildcards):
    piece = int(wildcards.piece) - 1
    return f"{TRAIN}/g{wildcards.generation}/fits/{wildcards.kind}-{wildcards.share}-{wildcards.number}.p{piece}.json" if piece else []


def train_compute():
    return settings_of(None, "compute", "device", "dtype", "threads")


# Minutes of a job: each goes on where it was stopped, and none asks for more than the partition allows.
TRAIN_MINUTES = min(240, CAMPAIGN.settings.walltime_min)
FIT_MINUTES = min(math.ceil(TRAINING.fit.piece_minutes) + 10, CAMPAIGN.settings.walltime_min)


rule train:
    input:
        f"{TRAIN}/registered.json",
        f"{TRAIN}/learning_curve.svg",


rule train_cells:
    input:
        [row["structure"] for row in TRAINED.candidates.values()],
    output:
        [f"{TRAIN}/cells/{material.name}.extxyz" for material in TRAINING.materials],
    params:
        digest=TRAINING.digest("materials"),
        folder=TRAIN,
    log:
        f"{FOLDER}/logs/training/cells.log",
    shell:
        "python scripts/train_cells.py --folder {params.folder:q} --digest {params.digest} > {log:q} 2>&1"


rule train_sample:
    input:
        cell=f"{TRAIN}/cells/{{material}}.extxyz",
        student=lambda w: f"{TRAIN}/g{int(w.generation) - 1}/errors.json" if int(w.generation) else [],
    output:
        force=f"{TRAIN}/g{{generation}}/{{material}}/force.extxyz",
        alpha=f"{TRAIN}/g{{generation}}/{{material}}/alpha.extxyz",
    params:
        digest=lambda w: TRAINING.digest(
            "sample", "teacher", "active", *(["validate_"] if int(w.generation) else []), material=w.material
        ),
        compute=train_compute(),
        folder=TRAIN,
    threads: CAMPAIGN.settings.compute.threads
    resources:
        runtime=TRAIN_MINUTES,
        mem_mb=8000,
    log:
        f"{FOLDER}/logs/training/sample_g{{generation}}_{{material}}.log",
    shell:
        "python scripts/train_sample.py --folder {params.folder:q} --digest {params.digest} --generation {wildcards.generation}"
        " --material {wildcards.material:q} --compute {params.compute} > {log:q} 2>&1"


rule train_label:
    input:
        f"{TRAIN}/g{{generation}}/{{material}}/{{kind}}.extxyz",
    output:
        f"{TRAIN}/g{{generation}}/{{material}}/{{kind}}_{{chunk}}.json",
    params:
        digest=lambda w: TRAINING.digest("checks", *(("teacher", "teacher_per_job") if w.kind == "force" else ("espresso",))),
        folder=TRAIN,
    resources:
        runtime=TRAIN_MINUTES,
        mem_mb=8000,
    log:
        f"{FOLDER}/logs/training/label_g{{generation}}_{{material}}_{{kind}}_{{chunk}}.log",
    shell:
        "python scripts/train_label.py --folder {params.folder:q} --digest {params.digest} --generation {wildcards.generation}"
        " --material {wildcards.material:q} --kind {wildcards.kind} --chunk {wildcards.chunk} > {log:q} 2>&1"


rule train_collect:
    input:
        lambda w: label_seals(w.generation),
        [item.file for item in TRAINING.imports],
    output:
        [f"{TRAIN}/g{{generation}}/{kind}.extxyz" for kind in TRAINING.kinds],
        f"{TRAIN}/g{{generation}}/labels.json",
    params:
        digest=TRAINING.digest("checks", "imports"),
        folder=TRAIN,
    log:
        f"{FOLDER}/logs/training/collect_g{{generation}}.log",
    shell:
        "python scripts/train_collect.py --folder {params.folder:q} --digest {params.digest} --generation {wildcards.generation}"
        " > {log:q} 2>&1"


rule train_fit:
    input:
        data=f"{TRAIN}/g{{generation}}/{{kind}}.extxyz",
        tensors=lambda w: TRAINING.alpha.tensors if w.kind == "alpha" else [],
        previous=previous_piece,
    output:
        f"{TRAIN}/g{{generation}}/fits/{{kind}}-{{share}}-{{number}}.p{{piece}}.json",
    params:
        digest=lambda w: TRAINING.digest(w.kind),
        previous=lambda w, input: f"--previous {shlex.quote(str(input.previous))}" if input.previous else "",
        last=lambda w: "--last" if int(w.piece) == TRAINING.fit.pieces else "",
        compute=train_compute(),
        folder=TRAIN,
    threads: CAMPAIGN.settings.compute.threads
    resources:
        runtime=FIT_MINUTES,
        mem_mb=8000,
    log:
        f"{FOLDER}/logs/training/fit_g{{generation}}_{{kind}}-{{share}}-{{number}}.p{{piece}}.log",
    shell:
        "python scripts/train_fit.py {output:q} --folder {params.folder:q} --digest {params.digest} --data {input.data:q}"
        " --kind {wildcards.kind} --share {wildcards.share} --member {wildcards.number} {params.previous} {params.last}"
        " --compute {params.compute} --minutes {resources.runtime} > {log:q} 2>&1"


rule train_evaluate:
    input:
        lambda w: fit_seals(w.generation),
    output:
        f"{TRAIN}/g{{generation}}/errors.json",
    params:
        compute=train_compute(),
        folder=TRAIN,
    threads: CAMPAIGN.settings.compute.threads
    resources:
        runtime=TRAIN_MINUTES,
        mem_mb=8000,
    log:
        f"{FOLDER}/logs/training/evaluate_g{{generation}}.log",
    shell:
        "python scripts/train_evaluate.py --folder {params.folder:q} --generation {wildcards.generation}"
        " --seals {input:q} --compute {params.compute} > {log:q} 2>&1"


rule train_curve:
    input:
        [f"{TRAIN}/g{generation}/errors.json" for generation in range(LAST + 1)],
    output:
        f"{TRAIN}/learning_curve.csv",
        f"{TRAIN}/learning_curve.svg",
    params:
        folder=TRAIN,
    log:
        f"{FOLDER}/logs/training/curve.log",
    shell:
        "python scripts/train_curve.py {input:q} --folder {params.folder:q} > {log:q} 2>&1"


rule train_validate:
    input:
        f"{TRAIN}/g{LAST}/errors.json",
    output:
        f"{TRAIN}/validation.json",
        f"{TRAIN}/validation.md",
    params:
        digest=TRAINING.digest("validate_", "teacher"),
        compute=train_compute(),
        folder=TRAIN,
        generation=LAST,
    threads: CAMPAIGN.settings.compute.threads
    resources:
        runtime=TRAIN_MINUTES,
        mem_mb=8000,
    log:
        f"{FOLDER}/logs/training/validate.log",
    shell:
        "python scripts/train_validate.py --folder {params.folder:q} --digest {params.digest} --generation {params.generation}"
        " --compute {params.compute} > {log:q} 2>&1"


rule train_register:
    input:
        f"{TRAIN}/validation.json",
    output:
        f"{TRAIN}/registered.json",
    params:
        digest=TRAINING.digest("name", "folder", "licence"),
        folder=TRAIN,
        generation=LAST,
        models=CAMPAIGN.settings.models.file,
    log:
        f"{FOLDER}/logs/training/register.log",
    shell:
        "python scripts/train_register.py --folder {params.folder:q} --digest {params.digest} --generation {params.generation}"
        " --models-file {params.models:q} > {log:q} 2>&1"
