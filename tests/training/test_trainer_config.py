from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from jasper_rag.training.trainer_config import TrainingConfig, higher_is_better


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"learning_rate_start": 1e-5}, "for schedule: ramp, but schedule is cosine"),
        ({"schedule": "ramp", "learning_rate_start": 1e-2}, "must not be above learning_rate 0.0003"),
        ({"precision": "fp16"}, "precision: fp16 needs mixed_precision: true"),
        ({"precision": "fp32", "mixed_precision": True}, "contradict each other"),
        ({"keep_last_n_checkpoints": 0}, "greater than or equal to 1"),
        ({"best_metric": "train/total"}, "match pattern"),
        ({"device": "cuda:x"}, "match pattern"),
        ({"lr": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TrainingConfig(**settings)


def test_a_warm_up_may_be_longer_than_the_run_and_part_of_an_epoch() -> None:
    assert TrainingConfig(num_epochs=1, warmup_epochs=2).warmup_epochs == 2
    assert TrainingConfig(warmup_epochs=0.5).warmup_epochs == 0.5


def test_the_ramp_starts_at_a_thirtieth_unless_told() -> None:
    assert TrainingConfig(schedule="ramp", learning_rate=3e-3).ramp_start == pytest.approx(1e-4)
    assert TrainingConfig(schedule="ramp", learning_rate_start=2e-5).ramp_start == 2e-5


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps", None])
def test_devices(device: str | None) -> None:
    assert TrainingConfig(device=device).device == device


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        ("val/ndcg@10", True),
        ("val/ndcg@10_one_click", True),
        ("val/mrr", True),
        ("val/recall@10_oracle", True),
        ("val/centroid_acc", True),
        ("train/routing_acc", True),
        ("val/total", False),
        ("val/vicreg_v", False),
        ("val/routing", False),
        ("val/map_loss@x", False),
    ],
)
def test_which_way_is_better(metric: str, higher: bool) -> None:
    assert higher_is_better(metric) is higher
