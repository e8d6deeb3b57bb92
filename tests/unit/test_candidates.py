"""The candidate table and the campaign: ten mistakes are ten sentences, overrides have the types of the
settings."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ionraman.campaign import load_campaign
from ionraman.candidates import read_table
from ionraman.carriers import Carrier, parse_carriers
from ionraman.settings import ConfigError, Settings

ROOT = Path(__file__).parents[2]
HEADER = "name structure mobile carriers temperatures_K overrides tags sigma300_S_cm gap_eV".replace(
    " ", "\t"
)


@pytest.fixture
def project(tmp_path):
    """A project with two models and a structure; write(rows) makes its table."""
    for folder in ("config/structures", "force", "alpha"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "config/models.yaml").write_text(
        "force: {small: {path: force, licence: MIT}}\nalpha: {small: {path: alpha, licence: MIT}}\n"
    )
    shutil.copy(ROOT / "config/structures/NaCl.cif", tmp_path / "config/structures")
    return tmp_path


def write(project, *rows, header=HEADER):
    lines = ["# a comment", header, "", *("\t".join(row) for row in rows)]
    (project / "config/candidates.tsv").write_text("\n".join(lines) + "\n")


def row(name="a", structure="structures/NaCl.cif", mobile="Na", *rest):
    return (name, structure, mobile, *rest)


def rejected(project, config=None):
    with pytest.raises(ConfigError) as error:
        load_campaign(config or {}, project)
    assert all(problem.endswith(".") for problem in error.value.problems)
    return error.value.problems


def test_shipped_table():
    settings = Settings()
    candidates, wrong = read_table(ROOT / "config/candidates.tsv", "config/candidates.tsv", settings)
    assert wrong == []
    names = {candidate.name for candidate in candidates}
    assert {file.stem for file in (ROOT / "config/structures").glob("*.cif")} <= names
    assert len(names) == 29
    demo = [candidate for candidate in candidates if "demo" in candidate.tags]
    assert [candidate.name for candidate in demo] == ["Na3SbS4_cub", "Na3SbS4_W2", "Na3PS4_W", "NaCl"]
    assert demo[1].carriers == "Sb->W 0.25; Na-vacancy 0.25"
    for candidate in candidates:
        assert bool(candidate.sigma300_S_cm) <= bool(candidate.sigma_source)
        text = (ROOT / "config" / candidate.structure).read_text()
        if "\n  H " in text:
            assert candidate.overrides["dynamics.timestep_fs"] <= 0.5
            assert candidate.overrides["dynamics.sampling_fs"] <= 3.3


def test_ten_mistakes_are_ten_sentences(project):
    write(
        project,
        row("a/b"),
        row("good"),
        row("GOOD"),
        row("nofile", "structures/none.cif"),
        row("recipe", "structures/NaCl.cif", "Na", "Sb=>W 0.125"),
        row("hot", "structures/NaCl.cif", "Na", "", "800K"),
        row("over", "structures/NaCl.cif", "Na", "", "", "replica=5"),
        row("element", "structures/NaCl.cif", "Xx"),
        row("sigma", "structures/NaCl.cif", "Na", "", "", "", "", "-1"),
    )
    found = rejected(project, {"dynamics": {"timestep": 2}, "models": {"alpha": "large"}})
    table = "config/candidates.tsv"
    expected = [
        ("config, dynamics.timestep: ", "unknown key", "did you mean timestep_fs?"),
        (f"{table} row 4 (a/b), name: ", "'a/b'", "letters, digits"),
        (f"{table} row 6 (GOOD), name: ", "row 5 is 'good'", "unique names"),
        (f"{table} row 7 (nofile), structure: ", "'structures/none.cif'", "an existing file"),
        (f"{table} row 8 (recipe), carriers: ", "'Sb=>W 0.125'", "Sb->W 0.125; Na-vacancy 0.125"),
        (f"{table} row 9 (hot), temperatures_K item 1: ", "'800K'", "a number at least 1 and at most 5000"),
        (f"{table} row 10 (over), overrides.replica: ", "unknown key", "did you mean replicas?"),
        (f"{table} row 11 (element), mobile: ", "'Xx'", "the symbol of an element"),
        (f"{table} row 12 (sigma), sigma300_S_cm: ", "'-1'", "a number at least 0"),
        ("config, models.alpha: ", "'large'", "one of small"),
    ]
    assert len(found) == len(expected) == 10
    for sentence, (start, what, allowed) in zip(found, expected):
        assert sentence.startswith(start)
        assert what in sentence and allowed in sentence


def test_several_mistakes_of_one_row(project):
    write(project, ("", "structures/NaCl.cif", "Na", "", "300; 300", "replicas=0; sampling_fs=3; seed=2"))
    found = "\n".join(rejected(project))
    assert "(no name), name: missing" in found
    assert "temperatures_K: found 300 twice" in found
    assert "overrides.replicas: found '0'; allowed: a whole number at least 1" in found
    assert "overrides.seed: ambiguous; allowed: one of structure.seed, dynamics.seed" in found


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ("sampling_fs=3", "overrides.sampling_fs: found 3 with timestep_fs 2; allowed: a whole multiple"),
        ("replicas", "overrides: found 'replicas'; allowed: key=value pairs"),
        ("replicas=5; replicas=6", "overrides: found replicas twice"),
        ("replicas=5; dynamics.replicas=6", "overrides.dynamics.replicas: found twice"),
        ("laser_nm=532", "overrides.laser_nm: unknown key"),
        ("replicas=2.5", "overrides.replicas: found '2.5'; allowed: a whole number"),
        ("allow_charged=maybe", "overrides.allow_charged: found 'maybe'; allowed: true or false"),
    ],
)
def test_wrong_overrides(project, overrides, expected):
    write(project, row("a", "structures/NaCl.cif", "Na", "", "", overrides))
    (sentence,) = rejected(project)
    assert expected in sentence


@pytest.mark.parametrize(
    "header, expected",
    [
        ("name\tstructure\tmobile\tsigma\tgap_eV", "the unknown column 'sigma'"),
        ("name\tstructure\tgap_eV", "no column 'mobile'"),
        ("name\tstructure\tmobile\tmobile", "the column 'mobile' 2 times"),
    ],
)
def test_wrong_header(project, header, expected):
    write(project, row(), header=header)
    assert any(expected in sentence for sentence in rejected(project))


def test_table_problems(project):
    write(project, (*row(), *[""] * 6, "surplus"))
    assert "found 10 cells; allowed: at most 9" in rejected(project)[0]
    write(project)
    assert "found no candidates" in rejected(project)[0]
    (project / "config/candidates.tsv").write_bytes(b"name\xff")
    assert "not UTF-8" in rejected(project)[0]
    (project / "config/candidates.tsv").write_text("# nothing\n")
    assert "found no header" in rejected(project)[0]
    (project / "config/candidates.tsv").unlink()
    assert "cannot be read" in rejected(project)[0]


def test_table_from_a_spreadsheet(project):
    text = f"\ufeff{HEADER}\r\na\tstructures/NaCl.cif\tNa\t\t\t\t\t1e-3\r\n"
    (project / "config/candidates.tsv").write_bytes(text.encode())
    assert load_campaign({}, project).candidates[0].sigma300_S_cm == 1e-3


def test_selection_by_name_or_tag(project):
    names = ["c", "a", "b", "d"]
    tags = ["x", "y", "x; z", ""]
    write(project, *(row(n, "structures/NaCl.cif", "Na", "", "", "", t) for n, t in zip(names, tags)))

    def chosen(**select):
        return [candidate.name for candidate in load_campaign({"select": select}, project).candidates]

    assert chosen() == names
    assert chosen(tags=["x"]) == ["c", "b"]
    assert chosen(names=["d", "a"], tags=["z"]) == ["a", "b", "d"]
    found = rejected(project, {"select": {"names": ["A"], "tags": ["w"]}})
    assert "select.names: found 'A'; allowed: one of c, a, b, d" in found[0]
    assert "select.tags: found 'w'; allowed: one of x, y, z" in found[1]


def test_runs_and_settings(project):
    write(
        project,
        row("a", "structures/NaCl.cif", "Na", "", "", "production_ps=200; replicas=5; batch_atoms=null"),
        row("b", "structures/NaCl.cif", "Na", "", "300; 450.5", "dynamics.seed=3; allow_charged=true"),
    )
    campaign = load_campaign({"temperatures_K": [600, 900.0], "polarizability": {"batch_atoms": 64}}, project)
    assert campaign.runs() == [("a", 600.0), ("a", 900.0), ("b", 300.0), ("b", 450.5)]
    assert campaign.setting("a", "dynamics.production_ps") == 200.0
    assert isinstance(campaign.setting("a", "dynamics.production_ps"), float)
    assert campaign.setting("a", "dynamics.replicas") == 5
    assert isinstance(campaign.setting("a", "dynamics.replicas"), int)
    assert campaign.setting("a", "polarizability.batch_atoms") is None
    assert campaign.setting("b", "polarizability.batch_atoms") == 64
    assert campaign.setting("b", "dynamics.seed") == 3
    assert campaign.setting("b", "structure.seed") == 1
    assert campaign.setting("b", "structure.allow_charged") is True
    assert campaign.setting("b", "models.force") == "small"
    assert campaign.structure_file("a") == "config/structures/NaCl.cif"
    assert campaign.models["force"].path == "force"


def test_whole_and_decimal_numbers_are_the_same_setting(project):
    write(project, row("a", "structures/NaCl.cif", "Na", "", "300", "npt_ps=20;npt_limit_ps=20"), row("b"))
    one = load_campaign({"dynamics": {"nvt_ps": 3}}, project)
    write(project, row("a", "structures/NaCl.cif", "Na", "", "300.0", "npt_ps=20.0;npt_limit_ps=20.0"), row("b"))
    two = load_campaign({"dynamics": {"nvt_ps": 3.0}}, project)
    assert str(one.runs()) == str(two.runs())
    for key in ("dynamics.npt_ps", "dynamics.nvt_ps"):
        assert str(one.setting("a", key)) == str(two.setting("a", key))


def test_shipped_campaigns_load(project):
    shutil.rmtree(project / "config")
    shutil.copytree(ROOT / "config", project / "config")
    config = yaml.safe_load((project / "config/config.yaml").read_text())
    models = yaml.safe_load((project / "config/models.yaml").read_text())
    for kind in ("force", "alpha"):
        (project / models[kind][config["models"][kind]]["path"]).mkdir(parents=True)
    assert [name for name, _ in load_campaign(config, project).runs()] == [
        "Na3SbS4_cub",
        "Na3SbS4_W2",
        "Na3PS4_W",
        "NaCl",
    ]


def test_a_thousand_rows_load_quickly(project):
    rows = (
        row(f"c{i}", "structures/NaCl.cif", "Na", "Na-vacancy 0.1", "300; 400", "replicas=5")
        for i in range(1000)
    )
    write(project, *rows)
    start = time.process_time()
    campaign = load_campaign({}, project)
    assert time.process_time() - start < 2
    assert len(campaign.runs()) == 2000


def test_reading_a_campaign_imports_no_materials_package():
    code = "import sys, ionraman.packs; print({'pymatgen', 'ase', 'scipy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_recipes():
    assert parse_carriers("Sb->W 0.125; Na-vacancy 1e-1") == (
        Carrier("Sb", "W", 0.125), Carrier("Na", None, 0.1),
    )  # fmt: skip
    assert parse_carriers(" ") == ()
    for text in (
        "Sb->W",
        "Sb->W x",
        "Sb->W -0.1",
        "Sb->Sb 0.1",
        "Na-vacancy 0",
        "Na vacancy 1",
        "Na-vacancy 1; Na-vacancy 2",
    ):
        with pytest.raises(ValueError):
            parse_carriers(text)
