"""The conda file and the container recipe hold the pins of requirements.txt, and a campaign's jobs run in the container that it names.

There is neither conda nor Apptainer here: the files are read, and a program in Apptainer's place runs what it is told.
"""

import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from .conftest import Campaign

SECTIONS = {"%labels", "%files", "%post", "%environment", "%test", "%help"}
APPTAINER = """#!{python}
import os, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("apptainer version 1.3.0"))
image = sys.argv.index("ionraman.sif")
assert os.path.exists("ionraman.sif") and sys.argv[image + 2] == "-c", sys.argv
with open("contained.txt", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
os.environ["PATH"] = os.environ["INSIDE"] + os.pathsep + os.environ["PATH"]
os.execvp(sys.argv[image + 1], sys.argv[image + 1:])
"""


@pytest.fixture(scope="module")
def recipe(root) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Header of the recipe, and the lines of its sections without comments."""
    header, sections, lines = {}, {}, None
    for line in (root / "envs/ionraman.def").read_text().splitlines():
        if line.startswith("%"):
            assert line not in sections, f"{line} comes twice"
            lines = sections[line] = []
        elif line.strip() and not line.strip().startswith("#"):
            if lines is None:
                key, _, value = line.partition(": ")
                header[key] = value
            else:
                assert line.startswith("    "), line
                lines.append(line.strip())
    return header, sections


def test_the_recipe_has_what_apptainer_asks_for(recipe, root):
    header, sections = recipe
    python = (root / ".python-version").read_text().strip()
    assert header == {"Bootstrap": "docker", "From": f"python:{python}-slim"}
    assert set(sections) == SECTIONS and all(sections.values())
    for line in sections["%files"]:
        source, target = line.split()
        assert (root / source).is_file() and target.startswith("/")
    for name in ("%post", "%environment", "%test"):
        script = "\n".join(sections[name])
        checked = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr
    done = subprocess.run([sys.executable, *_words(sections["%test"])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_recipe_and_conda_file_install_the_pins(recipe, root):
    (copied,) = recipe[1]["%files"]
    source, target = copied.split()
    assert source == "envs/requirements.txt"
    assert [line for line in recipe[1]["%post"] if f"pip install --no-cache-dir -r {target}" in line]
    conda = yaml.safe_load((root / "envs/environment.yml").read_text())
    *plain, pip = conda["dependencies"]
    assert plain == [f"python={(root / '.python-version').read_text().strip()}", "pip"]
    assert pip == {"pip": ["-r requirements.txt", "-e .."]}  # relative to the folder of the file
    for line in (root / "envs/requirements.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[\w.]+", line), line


def test_neither_names_an_address(root):
    for name in ("environment.yml", "ionraman.def"):
        assert "//" not in (root / "envs" / name).read_text()


def test_jobs_run_in_the_container(tmp_path, root):
    campaign = Campaign(tmp_path, root)
    campaign.add("salt", "structures/NaCl.cif")
    binary = tmp_path / "bin/apptainer"
    binary.parent.mkdir()
    binary.write_text(APPTAINER.format(python=sys.executable))
    binary.chmod(0o755)
    (tmp_path / "ionraman.sif").touch()
    target = "results/tiny/structures/salt/structure.json"
    command = campaign.command("--software-deployment-method", "apptainer", "--apptainer-args=--nv", "--", target)
    environment = os.environ | {
        "PATH": f"{binary.parent}:/usr/local/bin:/usr/bin:/bin",  # its Python alone has what the job needs
        "INSIDE": os.path.dirname(sys.executable),
        "PYTHONPATH": str(tmp_path / "workflow"),
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / target).exists()
    contained = (tmp_path / "contained.txt").read_text()
    assert "--nv" in contained and "python scripts/structure.py" in contained


def _words(lines: list[str]) -> list[str]:
    (line,) = lines
    words = shlex.split(line)
    assert words[0] == "python"
    return words[1:]
