"""config.yaml and models.yaml: strict, complete, and wrong keys named in sentences."""

from pathlib import Path

import pytest
import yaml
from ionraman.schemas import schema_texts
from ionraman.settings import ConfigError, Settings, load_models, load_settings, select_model

ROOT = Path(__file__).parents[2]


def problems(**config):
    return load_settings(config)[1]


def merged(base, overlay):
    """What Snakemake makes of two --configfile: blocks merged, lists replaced."""
    both = dict(base)
    for key, value in overlay.items():
        both[key] = merged(base[key], value) if isinstance(value, dict) else value
    return both


def test_config_yaml_states_every_key_with_its_default():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    settings, wrong = load_settings(config)
    assert wrong == []
    assert settings.select.tags == ["demo"]
    config["select"]["tags"] = []
    assert load_settings(config)[0].model_dump() == Settings().model_dump()
    for key, value in Settings().model_dump().items():
        assert key in config
        if isinstance(value, dict):
            assert set(config[key]) == set(value)


def test_cluster_overlay_is_what_it_promises():
    base = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    overlay = yaml.safe_load((ROOT / "config/campaign.yaml").read_text())
    settings, wrong = load_settings(merged(base, overlay))
    assert wrong == []
    assert settings.campaign == "cluster" != base["campaign"]
    assert settings.select.names == settings.select.tags == []
    assert len(settings.temperatures_K) >= 3
    assert settings.dynamics.production_ps >= 100
    assert settings.dynamics.replicas >= 5


def test_schemas_are_up_to_date():
    for name, text in schema_texts().items():
        file = ROOT / "workflow/schemas" / name
        assert file.read_text() == text, (
            f"run: python -m ionraman.schemas workflow/schemas ({name} is out of date)"
        )


def test_numbers_have_one_type():
    settings, _ = load_settings(
        {"temperatures_K": [300], "reference_temperature_K": 300, "dynamics": {"npt_ps": 5}}
    )
    assert isinstance(settings.temperatures_K[0], float)
    assert isinstance(settings.dynamics.npt_ps, float)


@pytest.mark.parametrize(
    "config, field, found, allowed",
    [
        ({"dynamics": {"timestp_fs": 2}}, "dynamics.timestp_fs", "unknown key", "did you mean timestep_fs"),
        ({"colour": "red"}, "colour", "unknown key", "one of campaign"),
        ({"dynamics": {"timestep_fs": "2"}}, "dynamics.timestep_fs", "'2'", "a number above 0 and at most 5"),
        ({"dynamics": {"timestep_fs": -1}}, "dynamics.timestep_fs", "-1", "above 0"),
        ({"dynamics": {"replicas": 2.5}}, "dynamics.replicas", "2.5", "a whole number at least 1"),
        ({"dynamics": {"replicas": True}}, "dynamics.replicas", "True", "a whole number"),
        (
            {"dynamics": {"sampling_fs": 5}},
            "dynamics.sampling_fs",
            "found 5",
            "whole multiple of timestep_fs",
        ),
        ({"dynamics": {"npt_limit_ps": 1}}, "dynamics.npt_limit_ps", "found 1", "at least npt_ps, 10"),
        ({"dynamics": {"relax_fmax_eV_A": "1e-2"}}, "dynamics.relax_fmax_eV_A", "'1e-2'", "write 1.0e-3"),
        ({"dynamics": {"npt_ps": float("inf")}}, "dynamics.npt_ps", "inf", "a number at least 0"),
        ({"dynamics": {1: 2}}, "dynamics", "the key 1", "keys that are text"),
        ({"dynamics": None}, "dynamics", "None", "a block of keys"),
        ({"campaign": "../x"}, "campaign", "'../x'", "letters, digits"),
        ({"results": "~/scratch"}, "results", "'~/scratch'", "a path, absolute or relative to the project"),
        ({"models": {"file": "/models.yaml"}}, "models.file", "'/models.yaml'", "a path relative to the project"),
        ({"temperatures_K": 300}, "temperatures_K", "300", "a list of at least 1, each a number at least 1"),
        ({"temperatures_K": [300, 300.0]}, "temperatures_K", "300 twice", "each temperature once"),
        ({"temperatures_K": [300.00001]}, "temperatures_K", "300.00001", "six significant digits"),
        ({"temperatures_K": [300]}, "reference_temperature_K", "900", "one of temperatures_K (300)"),
        ({"raman": {"nu2_cm": 4}}, "raman.nu2_cm", "4", "more than nu1_cm, 5"),
        ({"ranking": {"key": "best"}}, "ranking.key", "'best'", "one of pareto, I_low, D"),
        ({"compute": {"device": "gpu"}}, "compute.device", "'gpu'", "one of auto, cpu, cuda"),
        ({"structure": {"allow_charged": 1}}, "structure.allow_charged", "1", "true or false"),
    ],
)
def test_one_mistake_is_one_sentence(config, field, found, allowed):
    (sentence,) = problems(**config)
    assert sentence.startswith(f"config, {field}: ") and sentence.endswith(".")
    assert found in sentence and allowed in sentence


def test_right_keys_survive_wrong_ones():
    settings, wrong = load_settings({"candidates": "mine.tsv", "dynamics": {"replicas": 0, "seed": 7}})
    assert len(wrong) == 1
    assert settings.candidates == "mine.tsv"
    assert settings.dynamics.seed == 7


MODEL_LIST = """
force:
  own: {path: own, licence: MIT}
  pickle: {path: a.model, licence: MIT, sha256: null, url: "https://example.org/a.model"}
  trusted: {path: a.model, licence: MIT, sha256: "%s"}
""" % ("ab" * 32)


def test_models_by_name(tmp_path):
    (tmp_path / "models.yaml").write_text(MODEL_LIST)
    listed = load_models(tmp_path / "models.yaml", "models.yaml")

    entry, wrong = select_model(listed, "force", "owm", "models.yaml", tmp_path)
    assert entry is None and "did you mean own?" in wrong[0]
    _, wrong = select_model(listed, "force", "pickle", "models.yaml", tmp_path)
    assert "does not exist; get it from https://example.org/a.model" in wrong[0]
    assert "force.pickle.sha256: found null" in wrong[1]
    (tmp_path / "a.model").touch()
    entry, wrong = select_model(listed, "force", "trusted", "models.yaml", tmp_path)
    assert wrong == [] and entry.sha256 == "ab" * 32


@pytest.mark.parametrize(
    "text, expected",
    [
        ("force: {a: {path: x}}", "models.yaml, force.a.licence: missing"),
        ("force: {a: {path: x, licence: MIT, sha256: abc}}", "64 hexadecimal digits"),
        ("forces: {}", "did you mean force?"),
        ("force: [", "not valid YAML"),
    ],
)
def test_wrong_model_list(tmp_path, text, expected):
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_models(tmp_path / "models.yaml", "models.yaml")
    assert expected in error.value.problems[0]


def test_missing_model_list(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_models(tmp_path / "none.yaml", "none.yaml")
