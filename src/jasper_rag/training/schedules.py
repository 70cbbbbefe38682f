"""Schedules: a value for every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from jasper_rag.training.trainer_config import TrainingConfig


def geometric(start: float, end: float, step: int, steps: int) -> float:
    """Start * (end / start) ** (step / steps): equal factors per step, from `start` at step 0 towards `end`."""
    return float(start * (end / start) ** (step / steps))


def warmup_cosine(step: int, warmup: int, steps: int, last: float) -> float:
    """Share of the peak: (step + 1) / warmup while warming up, then a half cosine from 1 down to `last` at `steps`.

    (SGDR without restarts, arXiv:1608.03983.) A warm-up longer than the run never reaches the peak.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return last + (1 - last) * (1 + math.cos(math.pi * progress)) / 2


def learning_rate_factor(config: TrainingConfig, step: int, warmup: int, steps: int) -> float:
    """Share of `learning_rate` at a step, from 0."""
    if config.schedule == "ramp":
        return geometric(config.ramp_start, config.learning_rate, step, max(steps, 1)) / config.learning_rate
    if config.schedule == "constant":
        return min((step + 1) / warmup, 1.0) if warmup else 1.0
    return warmup_cosine(step, warmup, steps, config.final_learning_rate_factor)


def build_scheduler(optimizer: Optimizer, config: TrainingConfig, steps_per_epoch: int, steps: int) -> LambdaLR:
    """The learning-rate schedule of a run; call `step()` after every optimiser step.

    Args:
        optimizer: Its `lr` is the peak.
        config: Which schedule, how long the warm-up is.
        steps_per_epoch: Optimiser steps of an epoch.
        steps: Of the whole run.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch) if config.schedule != "ramp" else 0
    return LambdaLR(optimizer, lambda step: learning_rate_factor(config, step, warmup, steps))


def schedule_state(scheduler: LRScheduler) -> dict[str, Any]:
    """Where a schedule stands. Its functions are no plain values, and come from the settings again."""
    return {key: value for key, value in scheduler.state_dict().items() if key != "lr_lambdas"}


def go_on(scheduler: LRScheduler, state: Mapping[str, Any]) -> None:
    """Put a schedule where another one stood.

    One of `build_scheduler` keeps its own peak and length: a run that goes on with other settings obeys them.

    Args:
        scheduler: Its optimizer's learning rate is set too.
        state: Of `schedule_state`.
    """
    own = scheduler.state_dict()
    if not isinstance(scheduler, LambdaLR):
        scheduler.load_state_dict({**own, **state})
        return
    scheduler.load_state_dict({**own, **state, "base_lrs": own["base_lrs"]})
    at = scheduler.last_epoch
    rates = [base * factor(at) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    for group, base, rate in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, rates, strict=True):
        group["initial_lr"], group["lr"] = base, rate
    scheduler._last_lr = rates
