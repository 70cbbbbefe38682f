from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.training.run_config import load_run_config


@pytest.mark.parametrize(
    ("overrides", "field", "hint"),
    [
        ({"loss.lambda_jaspr": 1}, "loss.lambda_jaspr", "Did you mean 'lambda_jasper'?"),
        ({"trianing.lr": 1}, "trianing", "Did you mean 'training'?"),
        ({"training.Batch_Size": 1}, "training.Batch_Size", "Did you mean 'batch_size'?"),
        ({"lambda_contrastive": 0.5}, "lambda_contrastive", "It belongs in the section `loss:`."),
        ({"training.tau_mn": 0.9}, "training.tau_mn", "Did you mean 'tau_min', which belongs in the section `ema:`?"),
        ({"xyzzy": 1}, "xyzzy", "Known here: model, ema, loss, training, dataset, monitoring, steering."),
        ({"loss.stages": [{"from_epoch": 0, "from_epok": 1}]}, "loss.stages.0.from_epok", "'from_epoch'"),
        ({"steering.curriculum.zero_start": 1}, "steering.curriculum.zero_start", "'zero_prob_start'"),
    ],
)
def test_an_unknown_key_is_told_its_nearest(overrides: dict[str, Any], field: str, hint: str) -> None:
    with pytest.raises(InputError, match="unknown key") as caught:
        load_run_config(None, overrides)
    assert caught.value.field == field
    assert hint in caught.value.remedy


@pytest.mark.parametrize(
    ("overrides", "field", "problem", "remedy"),
    [
        ({"training.lr": -1}, "training.learning_rate", "must be greater than 0; got -1.", "Default: 0.0003"),
        ({"training.lr": float("nan")}, "training.learning_rate", "must be a finite number; got nan", "AdamW"),
        ({"training.lr.x": 3}, "training.learning_rate", "must be a number; got {'x': 3}", ""),
        ({"training.num_epochs": 2.5}, "training.num_epochs", "must be a whole number; got 2.5", "Passes"),
        ({"training.seed": "a"}, "training.seed", "must be a whole number; got 'a'", ""),
        ({"training.pin_memory": "perhaps"}, "training.pin_memory", "must be true or false; got 'perhaps'", ""),
        ({"training.device": "gpu"}, "training.device", "not one of its values; got 'gpu'", "cuda:N"),
        ({"training.best_metric": "loss"}, "training.best_metric", "got 'loss'", "e.g. val/ndcg@10"),
        ({"model.activation": "gelu"}, "model.activation", "'GELU', 'ReLU'.*got 'gelu'", "Did you mean 'GELU'?"),
        ({"ema.schedule": "linear"}, "ema.schedule", "must be 'cosine'; got 'linear'", ""),
        ({"training": 5}, "training", "must hold keys and values; got 5", "Known there: batch_size, num_epochs"),
        ({"steering.curriculum": 4}, "steering.curriculum", "must hold keys and values", "Known there: mode"),
        ({"loss.stages": 3}, "loss.stages", "must be a list; got 3", "Known there: from_epoch"),
        ({"loss.stages": [{}]}, "loss.stages.0.from_epoch", "is missing", "from_epoch: "),
        ({"dataset.path": ""}, "dataset.path", "must not be empty", ""),
        ({"loss.lambda_jasper": True}, "loss.lambda_jasper", "must not be true", "Default: 1.0"),
        ({"training.device": "x" * 99}, "training.device", r"xxx\.\.\.", ""),
        ({"training.precision": "bf16"}, "training", "precision: bf16 needs mixed_precision: true", "fit together"),
        ({"training.lr": 0, "training.batch_size": 0}, "training.batch_size", "got 0", "wrong: training.learning_rate"),
    ],
)
def test_a_wrong_value_is_told_what_is_allowed(
    overrides: dict[str, Any], field: str, problem: str, remedy: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        load_run_config(None, overrides)
    assert caught.value.field == field
    assert remedy in caught.value.remedy


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("training:\n  epohcs: 3\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_run_config(path)
    assert str(caught.value).startswith(f"{path} [training.epohcs]: unknown key.")


def test_a_missing_file_is_told() -> None:
    with pytest.raises(InputError, match="no such file"):
        load_run_config("nowhere.yaml")


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("training: 5\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"\[training\]: must hold keys and values"):
        load_run_config(path, {"training.num_epochs": 3})


def test_keys_that_are_no_words_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("1: {2: 3}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_run_config(path)
    assert caught.value.path == path
