"""What a training run must remember to go on as if it had never stopped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from jasper_rag.errors import InputError
from jasper_rag.models.ema_encoder import EMAEncoder
from jasper_rag.training.best_model import BestModel
from jasper_rag.training.checkpointing import BEST, periodic_path, read_checkpoint, rotate, write_checkpoint
from jasper_rag.training.metric_sums import MetricSums
from jasper_rag.training.objective import Objective
from jasper_rag.training.schedules import go_on, schedule_state


@dataclass
class TrainerState:
    """Counters, sums and random numbers of a run.

    Args:
        seed: Of the random numbers.
        device: Of the training.
        global_step: Optimiser steps made.
        epoch: Last completed epoch; -1 before the first.
        step_in_epoch: Optimiser steps made in the epoch after it.
        learning_rate: Of the last step.
        best_val_loss: Lowest so far.
    """

    seed: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    global_step: int = 0
    epoch: int = -1
    step_in_epoch: int = 0
    learning_rate: float = 0.0
    best_val_loss: float = math.inf
    _numbers: dict[str, Tensor] = field(default_factory=dict)
    epoch_sums: MetricSums = field(init=False)
    """Losses of the steps made in the epoch."""
    interval_sums: MetricSums = field(init=False)
    """Losses since the last validation within an epoch."""

    def __post_init__(self) -> None:
        self.epoch_sums, self.interval_sums = MetricSums(self.device), MetricSums(self.device)

    def begin_epoch(self, epoch: int) -> None:
        """Note which epoch is next: what was done of another one is not part of it."""
        if epoch != self.epoch + 1:
            self.finish_epoch(epoch - 1)

    def finish_epoch(self, epoch: int) -> None:
        """Note that an epoch is over."""
        self.epoch, self.step_in_epoch = epoch, 0
        self.epoch_sums.clear()

    @contextmanager
    def randomness(self) -> Iterator[None]:
        """Within, torch's generators go on from where this run left them; without, they are the caller's."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            if self._numbers:
                self._restore()
            else:
                torch.default_generator.manual_seed(self.seed)
                if devices:
                    torch.cuda.manual_seed(self.seed)
            try:
                yield
            finally:
                self._numbers = self._current()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Within `randomness`, note its numbers, for a checkpoint written in the middle of an epoch."""
        self._numbers = self._current()
        yield
        self._restore()

    def rng_state(self) -> dict[str, Tensor]:
        """States of the generators by device type."""
        return self._numbers

    def take_rng_state(self, numbers: Mapping[str, Tensor]) -> None:
        """Go on with these.

        Raises:
            RuntimeError: They are no generator's states.
        """
        if "cpu" in numbers:
            torch.Generator().set_state(numbers["cpu"])
        self._numbers = dict(numbers)

    def _current(self) -> dict[str, Tensor]:
        found = {"cpu": torch.default_generator.get_state()}
        if self.device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def _restore(self) -> None:
        torch.default_generator.set_state(self._numbers["cpu"])
        if self.device.type == "cuda" and "cuda" in self._numbers:
            torch.cuda.set_rng_state(self._numbers["cuda"], self.device)


@dataclass(frozen=True)
class TrainedParts:
    """Everything of a run that learns or counts, and its history.

    Args:
        model: The predictor.
        ema_encoder: Of the sources.
        optimizer: Of both.
        scheduler: Of the learning rate, if there is one.
        scaler: Of fp16 gradients.
        state: Counters and random numbers.
        best: The best value so far.
        history: Rows of metrics.
        config: Settings as plain values, for the record.
        objective: Whose state goes with it.
    """

    model: nn.Module
    ema_encoder: EMAEncoder
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler
    state: TrainerState
    best: BestModel
    history: list[dict[str, float]]
    config: Mapping[str, Any]
    objective: Objective | None = None

    def save(self, path: str | Path, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Write a checkpoint; see `JASPERTrainer.save_checkpoint`."""
        state = self.state
        content: dict[str, Any] = {
            "model_state_dict": self.model.state_dict(),
            "ema_state_dict": self.ema_encoder.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "global_step": state.global_step,
            "epoch": int(epoch),
            "metrics": _plain_row(metrics),
            "best_val_loss": state.best_val_loss,
            "best": self.best.state_dict(),
            "rng_state": state.rng_state(),
            "step_in_epoch": state.step_in_epoch,
            "partial_sums": state.epoch_sums.state_dict(),
            "interval_sums": state.interval_sums.state_dict(),
            "learning_rate": state.learning_rate,
            "history": [_plain_row(row) for row in self.history],
            "config": dict(self.config),
            "scaler_state_dict": self.scaler.state_dict(),
        }
        if self.scheduler is not None:
            content["scheduler_state_dict"] = schedule_state(self.scheduler)
        if self.objective is not None and (kept := self.objective.state_dict()):
            content["objective_state_dict"] = kept
        write_checkpoint(path, content)

    def load(self, path: str | Path) -> tuple[int, dict[str, float]]:
        """Take over a checkpoint; see `JASPERTrainer.load_checkpoint`."""
        # Read to the CPU: what is on a device is copied there, and the counters of the optimizer are not.
        content = read_checkpoint(path)
        with _fitting(path):
            self._take_weights(content)
            self._take_optimizer(content)
            if self.objective is not None and "objective_state_dict" in content:
                self.objective.load_state_dict(content["objective_state_dict"])
            self._take_counters(content)
        return self.state.epoch, dict(content["metrics"])

    def save_periodic(self, folder: str | Path, epoch: int, metrics: Mapping[str, Any], keep: int) -> None:
        """Write the checkpoint of an epoch and remove those that are too old."""
        self.save(periodic_path(Path(folder), epoch), epoch, metrics)
        rotate(Path(folder), keep, epoch)

    def load_best(self, folder: str | Path | None) -> int | None:
        """Take over the best weights and nothing else; see `JASPERTrainer.load_best`."""
        path = None if folder is None else Path(folder) / BEST
        if path is not None and path.is_file():
            content = read_checkpoint(path)
            with _fitting(path):
                self._take_weights(content)
            return int(content["epoch"])
        if self.best.weights is not None:
            for module, weights in zip((self.model, self.ema_encoder), self.best.weights, strict=True):
                module.load_state_dict(weights)
        return None

    def _take_weights(self, content: Mapping[str, Any]) -> None:
        self.model.load_state_dict(content["model_state_dict"])
        self.ema_encoder.load_state_dict(content["ema_state_dict"])

    def _take_optimizer(self, content: Mapping[str, Any]) -> None:
        # Weight decay and the like are settings: a run that goes on with others obeys them.
        settings = [
            {key: value for key, value in group.items() if key not in ("params", "lr", "initial_lr")}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(content["optimizer_state_dict"])
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
        if self.scheduler is not None and "scheduler_state_dict" in content:
            go_on(self.scheduler, content["scheduler_state_dict"])
        if content.get("scaler_state_dict"):
            self.scaler.load_state_dict(content["scaler_state_dict"])

    def _take_counters(self, content: Mapping[str, Any]) -> None:
        state = self.state
        state.take_rng_state(content.get("rng_state", {}))
        state.global_step, state.epoch = int(content["global_step"]), int(content["epoch"])
        state.step_in_epoch = int(content.get("step_in_epoch", 0))
        state.epoch_sums.load_state_dict(content.get("partial_sums", {}))
        state.interval_sums.load_state_dict(content.get("interval_sums", {}))
        state.learning_rate = float(content.get("learning_rate", 0.0))
        state.best_val_loss = float(content.get("best_val_loss", math.inf))
        self.best.load_state_dict(content.get("best", {}))
        self.history[:] = content.get("history", [])


@contextmanager
def _fitting(path: str | Path) -> Iterator[None]:
    """Say of what does not fit that it does not."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        remedy = "Give the checkpoint of a run with the same model section and the same dataset width."
        raise InputError(f"does not fit this model: {_first_line(error)}", path=path, remedy=remedy) from error


def _plain_row(row: Mapping[str, Any]) -> dict[str, float | int]:
    """Python numbers; `weights_only` loading refuses numpy's."""
    return {name: value if type(value) in (int, float) else float(value) for name, value in row.items()}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else type(error).__name__
