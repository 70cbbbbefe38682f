from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from jasper_rag.training.schedules import build_scheduler, geometric, go_on, schedule_state, warmup_cosine
from jasper_rag.training.trainer_config import TrainingConfig


def test_equal_factors_from_start_towards_end() -> None:
    values = [geometric(1e-4, 3e-3, step, 50) for step in range(51)]
    assert values == pytest.approx(np.geomspace(1e-4, 3e-3, 51).tolist())
    assert geometric(0.5, 0.5, 3, 7) == 0.5


def made(per_epoch: int = 10, epochs: int = 5, **config: Any) -> tuple[torch.optim.Optimizer, Any]:
    settings = TrainingConfig(**{"learning_rate": 0.4, "warmup_epochs": 2, "num_epochs": epochs, **config})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    return optimizer, build_scheduler(optimizer, settings, per_epoch, per_epoch * epochs)


def rates(steps: int = 50, **config: Any) -> list[float]:
    """Learning rate of every step, as the optimiser sees it, and the one after the last."""
    optimizer, scheduler = made(**config)
    found = []
    for _ in range(steps + 1):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_by_steps_then_half_a_cosine() -> None:
    found = rates()
    assert found[:20] == pytest.approx([0.4 * (step + 1) / 20 for step in range(20)])
    assert found[19] == found[20] == 0.4
    assert found[35] == pytest.approx(0.4 * (0.01 + 0.99 * (1 + math.cos(math.pi / 2)) / 2))
    assert found[50] == pytest.approx(0.004)
    assert all(after < before for before, after in pairwise(found[20:]))


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert rates(warmup_epochs=0)[0] == 0.4
    assert rates(warmup_epochs=0.5)[:5] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4])


@pytest.mark.parametrize("warmup", [5, 8])
def test_a_warm_up_as_long_as_the_run(warmup: int) -> None:
    found = rates(warmup_epochs=warmup)
    assert found[:50] == pytest.approx([0.4 * (step + 1) / (10 * warmup) for step in range(50)])


def test_the_other_schedules() -> None:
    ramp = rates(schedule="ramp", learning_rate_start=0.04)
    assert ramp == pytest.approx([0.04 * 10 ** (step / 50) for step in range(51)])
    constant = rates(schedule="constant")
    assert constant[:20] == pytest.approx([0.4 * (step + 1) / 20 for step in range(20)])
    assert constant[20:] == [0.4] * 31
    assert rates(schedule="constant", warmup_epochs=0) == [0.4] * 51


def test_after_the_end_it_stays() -> None:
    assert warmup_cosine(99, 0, 50, 0.1) == pytest.approx(0.1)
    assert warmup_cosine(0, 0, 0, 0.1) == 1


def test_it_goes_on_bit_for_bit_and_obeys_other_settings() -> None:
    optimizer, scheduler = made()
    for _ in range(13):
        optimizer.step()
        scheduler.step()
    state = schedule_state(scheduler)
    assert "lr_lambdas" not in state
    other, again = made()
    go_on(again, state)
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert again.get_last_lr() == scheduler.get_last_lr()
    assert schedule_state(again) == state
    slower, halved = made(learning_rate=0.2)
    go_on(halved, state)
    assert slower.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"] / 2)
