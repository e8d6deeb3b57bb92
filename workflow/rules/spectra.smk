rule transport:
    input:
        f"{RUN}/dynamics.json",
    output:
        f"{RUN}/transport.json",
    params:
        confidence=CAMPAIGN.settings.confidence,
    log:
        f"{FOLDER}/logs/transport/{{candidate}}_{{temperature}}K.log",
    shell:
        "python scripts/transport.py {input:q} {output:q} --confidence {params.confidence} > {log:q} 2>&1"


rule spectrum:
    input:
        dynamics=f"{RUN}/dynamics.json",
        polarizability=f"{RUN}/polarizability.json",
    output:
        f"{RUN}/marker.json",
    params:
        settings=settings_of(None, "raman"),
        confidence=CAMPAIGN.settings.confidence,
    log:
        f"{FOLDER}/logs/spectrum/{{candidate}}_{{temperature}}K.log",
    shell:
        "python scripts/spectrum.py {input.dynamics:q} {input.polarizability:q} {output:q} --settings {params.settings}"
        " --confidence {params.confidence} > {log:q} 2>&1"


rule summary:
    input:
        structure=f"{FOLDER}/structures/{{candidate}}/structure.json",
        dynamics=f"{RUN}/dynamics.json",
        transport=f"{RUN}/transport.json",
        marker=f"{RUN}/marker.json",
    output:
        f"{RUN}/summary.json",
    params:
        tags=lambda w: ";".join(CAMPAIGN.candidate(w.candidate).tags),
        sigma300_S_cm=lambda w: CAMPAIGN.candidate(w.candidate).sigma300_S_cm,
        sigma_source=lambda w: CAMPAIGN.candidate(w.candidate).sigma_source,
        gap_eV=lambda w: CAMPAIGN.candidate(w.candidate).gap_eV,
    log:
        f"{FOLDER}/logs/summary/{{candidate}}_{{temperature}}K.log",
    shell:
        "python scripts/summary.py {input.structure:q} {input.dynamics:q} {input.transport:q} {input.marker:q} {output:q}"
        " --member {wildcards.candidate:q}:{wildcards.temperature} --tags={params.tags:q}"
        " --sigma300-S-cm {params.sigma300_S_cm} --sigma-source={params.sigma_source:q} --gap-eV {params.gap_eV}"
        " > {log:q} 2>&1"
