from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.yaml_files import write_yaml


def load(tmp_path: Path, text: str, overrides: dict[str, Any] | None = None) -> JasperConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def test_defaults() -> None:
    assert load_config() == JasperConfig()
    assert JasperConfig().encoder.name == "sentence-transformers/all-MiniLM-L6-v2"


def test_a_file_overlays_defaults_and_overrides_overlay_the_file(tmp_path: Path) -> None:
    text = "seed: 3\ntraining:\n  learning_rate_start: 1e-5\n  steps: 7\nguard: {gate: no}\n"
    overrides = {"training.steps": 9, "encoder.name": "some/model", "language": None, "guard.alpha_step": "0.5"}
    config = load(tmp_path, text, overrides)
    assert config.seed == 3
    assert (config.training.learning_rate_start, config.training.steps) == (1e-5, 9)
    assert (config.guard.gate, config.guard.alpha_step) == (False, 0.5)
    assert (config.encoder.name, config.language) == ("some/model", "english")
    assert config.training.batch_size == JasperConfig().training.batch_size


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == JasperConfig()


def test_the_whole_config_survives_a_file(tmp_path: Path) -> None:
    config = load_config(None, {"seed": 5, "encoder.max_seq_length": 128, "training.temperature": 0.05})
    write_yaml(tmp_path / "config.yaml", config.model_dump())
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("text", "field", "nearest"),
    [
        ("sede: 1\n", "sede", "seed"),
        ("trainning: {steps: 3}\n", "trainning", "training"),
        ("training:\n  learning_rate_strat: 1e-3\n", "training.learning_rate_strat", "learning_rate_start"),
        ("encoder: {max_length: 3}\n", "encoder.max_length", "max_seq_length"),
        ("guard: {Gate: 1}\n", "guard.Gate", "gate"),
    ],
)
def test_an_unknown_key_is_told_its_nearest(tmp_path: Path, text: str, field: str, nearest: str) -> None:
    with pytest.raises(InputError, match="unknown key") as caught:
        load(tmp_path, text)
    assert caught.value.field == field
    assert caught.value.path == tmp_path / "config.yaml"
    assert f"Did you mean {nearest!r}?" in caught.value.remedy


def test_an_unknown_key_like_no_other_gets_the_list() -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, {"xyzzy": 1})
    known = "seed, language, encoder, training, guard, topics, explain, chunking, pseudo_questions"
    assert caught.value.remedy == f"Known here: {known}."


@pytest.mark.parametrize(
    ("overrides", "field", "problem"),
    [
        ({"training.steps": 0}, "training.steps", "greater than 0; got 0"),
        ({"training.temperature": -1.0}, "training.temperature", "greater than or equal to 0.0001; got -1.0"),
        ({"seed": "often"}, "seed", "valid integer.*got 'often'"),
        ({"encoder.dtype": "float8"}, "encoder.dtype", "'float32', 'bfloat16' or 'float16'; got 'float8'"),
        ({"guard.gate_low": 0.99}, "guard", "gate_low 0.99 must be below gate_high"),
        ({"training": 5}, "training", "got 5"),
        ({"encoder.name": ""}, "encoder.name", "at least 1 character; got ''"),
    ],
)
def test_a_value_out_of_range_is_shown(overrides: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        load_config(None, overrides)
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize("field", ["training", "seed"])
def test_an_override_below_a_plain_value_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(InputError, match="must hold keys and values") as caught:
        load(tmp_path, f"{field}: 5\n", {f"{field}.steps": 3})
    assert caught.value.field == field
    assert caught.value.path == tmp_path / "config.yaml"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        load_config(tmp_path / "gone.yaml")


def test_encoder_settings_are_those_of_the_encoder() -> None:
    settings = load_config(None, {"encoder.name": "some/model", "encoder.query_prompt": "query: "}).encoder
    config = settings.to_encoder_config(offline=True)
    assert config.offline
    assert {name: getattr(config, name) for name in settings.model_dump()} == settings.model_dump()
