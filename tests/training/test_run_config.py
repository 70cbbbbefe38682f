from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from jasper_rag.errors import InputError
from jasper_rag.losses.loss_config import LossStage
from jasper_rag.training.run_config import RunConfig, load_run_config
from jasper_rag.yaml_files import read_yaml, write_yaml

DOCUMENTED: dict[str, dict[str, Any]] = {
    "model": {
        "embedding_dim": 768,
        "hidden_dim": 512,
        "num_layers": 3,
        "dropout": 0.1,
        "activation": "GELU",
        "use_layer_norm": True,
        "normalize_output": False,
    },
    "ema": {"tau_min": 0.996, "tau_max": 0.999, "schedule": "cosine"},
    "loss": {
        "lambda_jasper": 1.0,
        "lambda_contrastive": 0.5,
        "lambda_centroid": 0.1,
        "lambda_vicreg": 0.1,
        "jasper_beta": 1.0,
        "contrastive_temperature": 0.07,
        "centroid_temperature": 0.1,
        "vicreg_lambda_v": 25.0,
        "vicreg_lambda_i": 25.0,
        "vicreg_lambda_c": 1.0,
    },
    "training": {
        "batch_size": 64,
        "num_epochs": 50,
        "warmup_epochs": 2,
        "learning_rate": 3.0e-4,
        "weight_decay": 1.0e-4,
        "num_workers": 4,
        "pin_memory": True,
        "max_grad_norm": 1.0,
        "mixed_precision": False,
        "save_every_n_epochs": 5,
        "keep_last_n_checkpoints": 3,
        "log_every_n_steps": 50,
    },
    "dataset": {"split_train": "train", "split_val": "val", "n_neg": 8},
    "monitoring": {"use_wandb": False, "wandb_project": "jasper-rag", "wandb_name": None},
}
"""Sections, keys and values of the training guide."""


def load(tmp_path: Path, text: str, overrides: dict[str, Any] | None = None) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_run_config(path, overrides)


def commented_keys_active(text: str) -> str:
    """The shipped file with its optional keys switched on."""
    return re.sub(r"^(\s*)# (?=[a-z_ ]+:( |$)|  - \{)", r"\1", text, flags=re.MULTILINE)


def test_the_documented_values_are_the_defaults() -> None:
    config = RunConfig().to_dict()
    assert {name: {key: config[name][key] for key in keys} for name, keys in DOCUMENTED.items()} == DOCUMENTED


@pytest.mark.slow
def test_the_shipped_file_holds_the_documented_keys_at_their_defaults(repository: Path) -> None:
    path = repository / "configs/jasper_base.yaml"
    assert read_yaml(path) == DOCUMENTED
    assert load_run_config(path) == RunConfig() == load_run_config()


@pytest.mark.slow
def test_the_shipped_file_names_every_optional_key_with_its_default(repository: Path, tmp_path: Path) -> None:
    text = commented_keys_active((repository / "configs/jasper_base.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "all.yaml"
    path.write_text(text, encoding="utf-8")
    values, defaults = read_yaml(path), RunConfig().to_dict()
    stages = values["loss"].pop("stages")
    defaults["loss"].pop("stages")
    assert values == defaults
    assert [stage["from_epoch"] for stage in stages] == [0, 5, 15, 25]
    assert len(load_run_config(path).loss.stages) == 4


def test_a_file_overlays_defaults_and_overrides_overlay_the_file(tmp_path: Path) -> None:
    text = "training:\n  learning_rate: 1e-4\n  num_epochs: 7\ndataset: {path: d, n_neg: null}\nloss:\n"
    config = load(tmp_path, text, {"training.num_epochs": 9, "model.hidden_dim": "32", "training.seed": None})
    assert (config.training.learning_rate, config.training.num_epochs, config.training.seed) == (1e-4, 9, 0)
    assert (config.dataset.path, config.dataset.n_neg, config.model.hidden_dim) == ("d", None, 32)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\n") == RunConfig()


def test_overrides_reach_an_empty_section(tmp_path: Path) -> None:
    config = load(tmp_path, "steering:\n  curriculum:\n", {"steering.curriculum.mode": "none"})
    assert config.steering.curriculum is not None
    assert config.steering.curriculum.mode == "none"


def test_other_spellings_are_understood_everywhere(tmp_path: Path) -> None:
    text = "loss: {lambda_jepa: 2, jepa_beta: 0.5}\ntraining: {lr: 1e-5, epochs: 3}\ndataset: {path: there}\n"
    config = load(tmp_path, text)
    assert (config.loss.lambda_jasper, config.loss.jasper_beta) == (2, 0.5)
    assert (config.training.learning_rate, config.training.num_epochs) == (1e-5, 3)
    assert load(tmp_path, text, {"training.lr": 0.1}).training.learning_rate == 0.1
    assert load(tmp_path, text, {"training.num_epochs": 4}).training.num_epochs == 4
    assert RunConfig(**read_yaml(tmp_path / "run.yaml")) == config


def test_both_spellings_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given beside `learning_rate`") as caught:
        load(tmp_path, "training: {lr: 1e-5, learning_rate: 1e-4}\n")
    assert (caught.value.field, caught.value.path) == ("training.lr", tmp_path / "run.yaml")


def test_stages_of_weights_by_epoch(tmp_path: Path) -> None:
    text = "loss:\n  stages:\n    - {from_epoch: 0, lambda_vicreg: 0.0}\n    - {from_epoch: 5, lambda_vicreg: 0.1}\n"
    stages = load(tmp_path, text).loss.stages
    assert stages == (LossStage(from_epoch=0, lambda_vicreg=0.0), LossStage(from_epoch=5, lambda_vicreg=0.1))


@pytest.mark.slow
def test_all_settings_survive_a_file(tmp_path: Path) -> None:
    overrides = {
        "loss.stages": [{"from_epoch": 3, "lambda_centroid": 0.5}],
        "steering.probabilities": {"zero": 0.5, "centroid": 0.5},
        "steering.curriculum": {"mode": "cosine", "zero_prob_end": 0.3},
        "training.learning_rate": 1e-5,
    }
    config = load_run_config(None, overrides)
    write_yaml(tmp_path / "config.yaml", config.to_dict())
    assert load_run_config(tmp_path / "config.yaml") == config == RunConfig(**config.to_dict())


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().training.num_epochs = 3  # type: ignore[misc]


@pytest.mark.slow
def test_no_torch_is_imported() -> None:
    code = "import sys, jasper_rag.training.run_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("section", ["model", "ema", "training", "dataset", "monitoring", "steering"])
def test_every_key_says_what_it_is(section: str) -> None:
    kind = RunConfig.model_fields[section].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, BaseModel)
    assert all(field.description for field in kind.model_fields.values())
