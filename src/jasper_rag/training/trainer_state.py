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
from jasper_rag.training.checkpointing import read_checkpoint, write_checkpoint


@dataclass
class TrainerState:
    """Counters, sums and random numbers of a run.

    Args:
        seed: Of the random numbers.
        global_step: Optimiser steps made.
        epoch: Last completed epoch; -1 before the first.
        step_in_epoch: Optimiser steps made in the epoch after it.
        partial_sums: Loss sums of these.
        best_val_loss: Lowest so far.
    """

    seed: int
    global_step: int = 0
    epoch: int = -1
    step_in_epoch: int = 0
    partial_sums: Mapping[str, list[float]] = field(default_factory=dict)
    best_val_loss: float = math.inf
    _numbers: dict[str, Tensor] = field(default_factory=dict)
    _device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def finish_epoch(self, epoch: int) -> None:
        """Note that an epoch is over."""
        self.epoch, self.step_in_epoch, self.partial_sums = epoch, 0, {}

    @contextmanager
    def randomness(self, device: torch.device) -> Iterator[None]:
        """Within, torch's generators go on from where this run left them; without, they are the caller's."""
        self._device = device
        devices = [device] if device.type == "cuda" else []
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
        """Go on with these; generators live on the CPU whatever they draw for."""
        self._numbers = {name: state.cpu() for name, state in numbers.items()}

    def _current(self) -> dict[str, Tensor]:
        found = {"cpu": torch.default_generator.get_state()}
        if self._device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self._device)
        return found

    def _restore(self) -> None:
        torch.default_generator.set_state(self._numbers["cpu"])
        if self._device.type == "cuda" and "cuda" in self._numbers:
            torch.cuda.set_rng_state(self._numbers["cuda"], self._device)


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
            "partial_sums": dict(state.partial_sums),
            "history": [_plain_row(row) for row in self.history],
            "config": dict(self.config),
            "scaler_state_dict": self.scaler.state_dict(),
        }
        if self.scheduler is not None:
            # The schedule's functions are no plain values, and come from the settings again.
            schedule = self.scheduler.state_dict()
            content["scheduler_state_dict"] = {key: value for key, value in schedule.items() if key != "lr_lambdas"}
        write_checkpoint(path, content)

    def load(self, path: str | Path, device: torch.device) -> tuple[int, dict[str, float]]:
        """Take over a checkpoint; see `JASPERTrainer.load_checkpoint`."""
        content, state = read_checkpoint(path, device), self.state
        try:
            self.model.load_state_dict(content["model_state_dict"])
            self.ema_encoder.load_state_dict(content["ema_state_dict"])
            self.optimizer.load_state_dict(content["optimizer_state_dict"])
        except (RuntimeError, ValueError, KeyError) as error:
            remedy = "Give the checkpoint of a run with the same model section and the same dataset width."
            raise InputError(f"does not fit this model: {_first_line(error)}", path=path, remedy=remedy) from error
        if self.scheduler is not None and "scheduler_state_dict" in content:
            self.scheduler.load_state_dict({**self.scheduler.state_dict(), **content["scheduler_state_dict"]})
        if content.get("scaler_state_dict"):
            self.scaler.load_state_dict(content["scaler_state_dict"])
        state.take_rng_state(content.get("rng_state", {}))
        state.global_step, state.epoch = int(content["global_step"]), int(content["epoch"])
        state.step_in_epoch = int(content.get("step_in_epoch", 0))
        state.partial_sums = dict(content.get("partial_sums", {}))
        state.best_val_loss = float(content.get("best_val_loss", math.inf))
        self.best.load_state_dict(content.get("best", {}))
        self.history[:] = content.get("history", [])
        return state.epoch, dict(content["metrics"])


def _plain_row(row: Mapping[str, Any]) -> dict[str, float | int]:
    """Python numbers; `weights_only` loading refuses numpy's."""
    return {name: value if type(value) in (int, float) else float(value) for name, value in row.items()}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else type(error).__name__
