from __future__ import annotations

import pytest
from pydantic import ValidationError

from jasper_rag.training.predictor_training_config import GuardConfig, PredictorTrainingConfig


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"batch_size": 0},
        {"steps": 0},
        {"evaluations": 0},
        {"patience": 0},
        {"learning_rate_start": 0},
        {"learning_rate_end": 1e-9},
        {"weight_decay": -1},
        {"epochs": 3},
    ],
    ids=str,
)
def test_training_config_refuses(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        PredictorTrainingConfig.model_validate(change)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha_step": 0},
        {"alpha_step": 1.5},
        {"significance": 0},
        {"gate_low": 0.99},
        {"gate_high": 1.1},
        {"bank_size": 0},
        {"neighbours": 0},
        {"corpus_low": 0.25},
        {"corpus_high": 1.1},
        {"alpha": 0.5},
    ],
    ids=str,
)
def test_guard_config_refuses(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        GuardConfig.model_validate(change)


def test_both_rates_are_named_when_they_do_not_grow() -> None:
    with pytest.raises(ValidationError, match=r"learning_rate_end 0\.001 must not be below learning_rate_start 0\.01"):
        PredictorTrainingConfig(learning_rate_start=1e-2, learning_rate_end=1e-3)
