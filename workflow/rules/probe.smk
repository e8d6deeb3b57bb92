# Asked for by scripts/campaign check --probe alone, which writes the request.


rule probe:
    output:
        f"{FOLDER}/probe.json",
    params:
        request=f"{FOLDER}/probe.request.json",
        force=model("force"),
        alpha=model("alpha"),
        force_digest=MODEL_SHA256["force"],
        alpha_digest=MODEL_SHA256["alpha"],
        compute=settings_of(None, "compute", "device", "dtype", "threads"),
    threads: CAMPAIGN.settings.compute.threads
    log:
        f"{FOLDER}/logs/probe.log",
    shell:
        "python scripts/probe.py {params.request:q} {output:q} --force {params.force:q} --force-sha256 {params.force_digest}"
        " --alpha {params.alpha:q} --alpha-sha256 {params.alpha_digest} --compute {params.compute} > {log:q} 2>&1"
