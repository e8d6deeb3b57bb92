# Both read campaign.json, which lists the runs: a command line is too short for thousands of them.


def ranking_command(partial=False):
    """The program of rule `ranking`; `partial` for a launch that ended with failures: table and report of what exists."""
    settings = CAMPAIGN.settings
    return (
        f"python scripts/ranking.py {shlex.quote(FOLDER)} --key {settings.ranking.key}"
        f" --reference-temperature-K {settings.reference_temperature_K:g}" + (" --partial" if partial else "")
    )


rule ranking:
    input:
        [f"{run_folder(run)}/summary.json" for run in CAMPAIGN.runs()],
    output:
        f"{FOLDER}/ranking.csv",
    params:
        command=ranking_command(),
    log:
        f"{FOLDER}/logs/ranking.log",
    shell:
        "{params.command} > {log:q} 2>&1"


rule report:
    input:
        ranking=f"{FOLDER}/ranking.csv",
    output:
        f"{FOLDER}/report.html",
    params:
        folder=FOLDER,
        confidence=CAMPAIGN.settings.confidence,
    log:
        f"{FOLDER}/logs/report.log",
    shell:
        "python scripts/report.py {params.folder:q} > {log:q} 2>&1"
