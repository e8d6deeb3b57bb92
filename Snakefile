# A campaign: from a table of candidates to a ranked table and a report.
# Start it with scripts/campaign, which prepares the environment and passes other options on to Snakemake.

from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


# Used with --software-deployment-method apptainer alone, see docs/cluster.md.
container: "ionraman.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/structures.smk"
include: "workflow/rules/dynamics.smk"
include: "workflow/rules/polarizability.smk"
include: "workflow/rules/spectra.smk"
include: "workflow/rules/ranking.smk"
include: "workflow/rules/probe.smk"


if CAMPAIGN.settings.training:

    include: "workflow/rules/training.smk"



localrules:
    all,
    structure,
    decline_dynamics,
    decline_polarizability,
    member,
    ranking,
    report,


rule all:
    default_target: True
    input:
        # The summaries are named, because a table of an incomplete launch may exist already.
        [f"{run_folder(run)}/summary.json" for run in CAMPAIGN.runs()],
        f"{FOLDER}/ranking.csv",
        f"{FOLDER}/report.html",


onstart:
    print(f"Campaign folder: {FOLDER}", flush=True)


# The table lists every candidate also when some failed.
onerror:
    # A training alone has begun no run.
    if Path(FOLDER, "structures").exists():
        shell(ranking_command(partial=True))
