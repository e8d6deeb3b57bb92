rule polarizability:
    input:
        f"{FOLDER}/packs/{{pack}}.dynamics.json",
    output:
        f"{FOLDER}/packs/{{pack}}.polarizability.json",
    wildcard_constraints:
        pack=BUSY_PACK,
    params:
        members=lambda w: pack_members(w.pack),
        settings=lambda w: settings_of(PACKS[w.pack][0][0], "polarizability"),
        model=model("alpha"),
        digest=MODEL_SHA256["alpha"],
        compute=settings_of(None, "compute", "device", "threads"),
        folder=FOLDER,
    threads: CAMPAIGN.settings.compute.threads
    resources:
        runtime=lambda w: polarizability_minutes(w.pack),
        mem_mb=lambda w: pack_memory_mb(w.pack, "polarizability"),
    log:
        f"{FOLDER}/logs/polarizability/{{pack}}.log",
    # exec: a shell in between would die of a SIGTERM, and its child with it, before that has saved itself
    shell:
        "exec python scripts/polarizability.py {input:q} {output:q} --folder {params.folder:q} --members {params.members}"
        " --settings {params.settings} --compute {params.compute}"
        " --model {params.model:q} --sha256 {params.digest} > {log:q} 2>&1"


rule decline_polarizability:
    input:
        f"{FOLDER}/packs/{{pack}}.dynamics.json",
    output:
        f"{FOLDER}/packs/{{pack}}.polarizability.json",
    wildcard_constraints:
        pack=IDLE_PACK,
    log:
        f"{FOLDER}/logs/polarizability/{{pack}}.log",
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
