rule structure:
    input:
        lambda w: CAMPAIGN.structure_file(w.candidate),
    output:
        f"{FOLDER}/structures/{{candidate}}/structure.json",
    params:
        mobile=lambda w: CAMPAIGN.candidate(w.candidate).mobile,
        carriers=lambda w: CAMPAIGN.candidate(w.candidate).carriers,
        settings=lambda w: settings_of(w.candidate, "structure"),
    log:
        f"{FOLDER}/logs/structure/{{candidate}}.log",
    shell:
        "python scripts/structure.py {input:q} {output:q} --mobile {params.mobile:q} --carriers={params.carriers:q}"
        " --settings {params.settings} > {log:q} 2>&1"
