from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from jasper_rag.training.encoder_config import EncoderTrainingConfig


def test_what_the_documents_print_is_the_default() -> None:
    config = EncoderTrainingConfig().resolved()
    assert (config.train_data, config.output_dir) == ("data/processed/train.json", "checkpoints")
    assert (config.output_dim, config.epochs, config.batch_size, config.warmup_steps) == (512, 3, 8, 100)
    assert (config.learning_rate, config.base_learning_rate, config.projection_learning_rate) == (2e-5, 2e-5, 2e-5)
    assert (config.weight_decay, config.lambda_contrastive, config.lambda_reg) == (0.01, 1.0, 0.1)
    assert (config.lambda_predictive, config.margin, config.loss) == (0.0, 1.0, "infonce")
    assert config.queue_size == 1016  # with a batch of 8, 1,024 rows are judged


def test_a_frozen_base_is_trained_over_in_large_batches() -> None:
    config = EncoderTrainingConfig(freeze_base=True).resolved()
    assert config.batch_size == 512
    assert config.projection_learning_rate == 5e-4
    given = EncoderTrainingConfig(freeze_base=True, batch_size=16, projection_learning_rate=1e-3).resolved()
    assert (given.batch_size, given.projection_learning_rate) == (16, 1e-3)
    plain = EncoderTrainingConfig(freeze_base=True, learning_rate=1e-4).resolved()
    assert plain.projection_learning_rate == 1e-4


def test_a_given_margin_asks_for_the_margin_loss() -> None:
    assert EncoderTrainingConfig(margin=1.0).resolved().loss == "margin"
    assert EncoderTrainingConfig(margin=0.5, loss="infonce").resolved().loss == "infonce"
    assert EncoderTrainingConfig(loss="margin").resolved().margin == 1.0


def test_a_warm_up_longer_than_the_run_is_cut() -> None:
    config = EncoderTrainingConfig(warmup_steps=100)
    assert [config.warmup(steps) for steps in (1000, 101, 100, 18, 5)] == [100, 100, 10, 1, 0]


def test_the_width_of_a_checkpoint_is_its_own() -> None:
    assert EncoderTrainingConfig(model_path="best_model.pt").resolved().output_dim is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lambda_predictive": 1.0}, "--use_predictor"),
        ({"lambda_contrastive": 0, "lambda_isotropy": 0, "lambda_reg": 0}, "nothing to learn"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"learning_rate": -1.0}, "greater than 0"),
        ({"los": "margin"}, "Extra inputs"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EncoderTrainingConfig.model_validate(settings)


@pytest.mark.slow
def test_the_settings_load_without_torch() -> None:
    code = "import sys; import jasper_rag.training.encoder_config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
