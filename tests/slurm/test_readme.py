"""The README's section "On a cluster": its commands as they stand there, on a copy of the project, with the shipped waits."""

import json
import re
import subprocess

import pandas as pd

from .conftest import README_CAMPAIGN

STATUS = {"Na3SbS4_cub": "complete", "NaCl": "complete", "Na3OCl": "unsupported"}


def test_the_commands_end_with_a_ranking(readme, cluster):
    code, said = readme.end()
    assert code == 0, said
    assert re.search(r"^gpu +1:00:00 +gpu:h100:5$", said, re.MULTILINE)  # sinfo, from which the edits follow
    assert "shared folder: seen" in said and "Nothing speaks against a launch." in said
    folder = readme.folder / "results" / README_CAMPAIGN["campaign"]
    table = pd.read_csv(folder / "ranking.csv").set_index("candidate")
    assert table.status.to_dict() == STATUS
    assert (folder / "report.html").stat().st_size > 10_000
    assert all(name in said.rpartition("Snakemake writes to")[2] for name in table.index)  # the table ends the launch


def test_gpu_jobs_and_analysis_ran_in_their_partitions(readme, cluster):
    code, said = readme.end()
    assert code == 0, said
    folder = readme.folder / "results" / README_CAMPAIGN["campaign"]
    launch = json.loads((folder / "launch.json").read_text())["name"]
    places = [
        (re.search(r"dynamics|polarizability|analysis", comment + name).group(), cluster.nodes_of(job)[0][:3])
        for job, name, _, comment in cluster.jobs()
        if name.startswith(launch)
    ]
    # Two runs share a pack; for the third, which no model covers, nothing asks for a GPU.
    assert places.count(("dynamics", "gpu")) == places.count(("polarizability", "gpu")) == 1
    assert places.count(("analysis", "cpu")) == len(places) - 2 == 3


def test_only_the_marked_lines_of_the_profile_were_edited(readme):
    code, said = readme.end()
    assert code == 0, said
    shipped, mine = (
        (readme.folder / "profiles" / name / "config.yaml").read_text().splitlines() for name in ("slurm", "mine")
    )
    edited = [line for line in shipped if line not in mine]
    assert len(edited) == 6
    # Of the unmarked lines that which asks for a GPU: there is none behind the devices of the tests.
    assert [line for line in edited if "EDIT" not in line] == [line for line in shipped if "device: cuda" in line]


def test_a_launcher_in_a_job_of_its_own(readme, cluster, root):
    """docs/cluster.md: where long processes are killed on the login node."""
    code, said = readme.end()
    assert code == 0, said
    (line,) = re.findall(r"^ +(sbatch .*--wrap .*)$", (root / "docs/cluster.md").read_text(), re.MULTILINE)
    folder = readme.folder / "results" / README_CAMPAIGN["campaign"]
    for file in folder.glob("runs/*/*/summary.json"):  # the analysis is left to do
        file.unlink()
        file.with_name("marker.json").unlink()
    command = readme.ready(line).replace("MY_CPU", "cpu").replace("-t 7-0", "-t 60").replace("sbatch", "sbatch --wait -o launcher.txt")
    before = {job for job, *_ in cluster.jobs()}
    done = subprocess.run(command, shell=True, cwd=readme.folder, env=readme.environment, check=False)
    text = (readme.folder / "launcher.txt").read_text()
    assert done.returncode == 0, text
    table = pd.read_csv(folder / "ranking.csv").set_index("candidate")
    assert table.status.to_dict() == STATUS
    assert len({job for job, *_ in cluster.jobs()} - before) > 1  # the launcher's and those that it submitted
    assert len(list(folder.glob("runs/*/*/summary.json"))) == len(STATUS)
