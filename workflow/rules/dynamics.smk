# Trajectories and checkpoints are siblings that Snakemake does not know: declared outputs are deleted before every rerun.


rule dynamics:
    input:
        lambda w: [f"{FOLDER}/structures/{name}/structure.json" for name, _ in PACKS[w.pack]],
    output:
        f"{FOLDER}/packs/{{pack}}.dynamics.json",
    wildcard_constraints:
        pack=BUSY_PACK,
    params:
        members=lambda w: pack_members(w.pack),
        settings=lambda w: settings_of(PACKS[w.pack][0][0], "dynamics"),
        model=model("force"),
        digest=MODEL_SHA256["force"],
        compute=settings_of(None, "compute", "device", "dtype", "threads"),
        folder=FOLDER,
    threads: CAMPAIGN.settings.compute.threads
    resources:
        runtime=lambda w: dynamics_minutes(w.pack),
        mem_mb=lambda w: pack_memory_mb(w.pack, "dynamics"),
    log:
        f"{FOLDER}/logs/dynamics/{{pack}}.log",
    # exec: a shell in between would die of a SIGTERM, and its child with it, before that has saved itself
    shell:
        "exec python scripts/dynamics.py {output:q} --folder {params.folder:q} --members {params.members}"
        " --settings {params.settings} --compute {params.compute}"
        " --model {params.model:q} --sha256 {params.digest} > {log:q} 2>&1"


# The same seal for a pack without a trajectory, written by the launcher.
rule decline_dynamics:
    input:
        lambda w: [f"{FOLDER}/structures/{name}/structure.json" for name, _ in PACKS[w.pack]],
    output:
        f"{FOLDER}/packs/{{pack}}.dynamics.json",
    wildcard_constraints:
        pack=IDLE_PACK,
    params:
        members=lambda w: pack_members(w.pack),
        timestep=lambda w: setting(PACKS[w.pack][0][0], "dynamics.timestep_fs"),
        elements=" ".join(model_elements(ROOT / model("force"))),
        folder=FOLDER,
    log:
        f"{FOLDER}/logs/dynamics/{{pack}}.log",
    shell:
        "python scripts/decline.py {output:q} --folder {params.folder:q} --members {params.members}"
        " --timestep-fs {params.timestep} --elements {params.elements} > {log:q} 2>&1"


# A member's own seal; this is the job that fails for a member that did not finish.
rule member:
    input:
        lambda w: f"{FOLDER}/packs/{pack_of(w)}.{w.stage}.json",
    output:
        f"{RUN}/{{stage}}.json",
    wildcard_constraints:
        stage="dynamics|polarizability",
    log:
        f"{FOLDER}/logs/member/{{candidate}}_{{temperature}}K_{{stage}}.log",
    shell:
        "python scripts/member.py {input:q} {output:q} --member {wildcards.candidate:q}:{wildcards.temperature} > {log:q} 2>&1"
