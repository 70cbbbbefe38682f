"""One optimiser step: forward, backward, gradients of all processes averaged, clipping, optimiser, schedule, EMA."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from jasper_rag.data.batch import Batch
from jasper_rag.dataset_layout import VARIANTS
from jasper_rag.models.ema_encoder import EMAEncoder
from jasper_rag.training.health import TrainingDiverged, require_finite
from jasper_rag.training.metric_sums import MetricSums
from jasper_rag.training.objective import Objective
from jasper_rag.training.processes import average_gradients, several
from jasper_rag.training.trainer_config import TrainingConfig

_LOG = logging.getLogger(__name__)


class TrainStep:
    """What is done with the batches of one optimiser step.

    Args:
        model: The predictor.
        ema_encoder: Updated after the optimiser.
        objective: The loss.
        optimizer: Of the model, and of the online encoder where that learns.
        scheduler: Stepped once per optimiser step; None: a constant rate.
        config: Clipping, precision, compilation.
        device: Where it all happens.
    """

    def __init__(
        self,
        model: nn.Module,
        ema_encoder: EMAEncoder,
        objective: Objective,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        config: TrainingConfig,
        device: torch.device,
    ) -> None:
        self.ema = ema_encoder
        self.objective = objective
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.device = device
        self._max_grad_norm = config.max_grad_norm
        self._log_every = config.log_every_n_steps
        self._dtype = half_precision(config, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)
        asked = objective.asked(model)
        self._asked: Any = torch.compile(asked) if config.compile else asked
        self._rate = float(optimizer.param_groups[0]["lr"])
        self._learning = [
            parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad
        ]

    def __call__(self, batches: Sequence[Batch], step: int, max_steps: int) -> dict[str, Tensor]:
        """Train on these batches together; their mean losses, as scalars on the device.

        Args:
            batches: As many as gradients are accumulated over.
            step: Optimiser steps made so far.
            max_steps: Of the whole run.

        Raises:
            TrainingDiverged: A loss is NaN or infinite, where torch looks for anomalies.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.begin_step(step, max_steps)
        found: dict[str, Tensor] = {}
        for batch in batches:
            total, parts = self.loss(batch)
            if torch.is_anomaly_enabled():  # whose own message would not name the loss
                require_finite({"total": total.detach(), **parts}, f"step {step + 1:,}")
            torch.autograd.backward(self.scaler.scale(total / len(batches)))
            for name, value in {"total": total.detach(), **parts, **_shares(batch)}.items():
                share = value / len(batches)
                found[name] = found[name] + share if name in found else share
        # Before they are unscaled: an overflow on one process must be seen, and the step left out, on all of them.
        average_gradients(self._learning)
        self.scaler.unscale_(self.optimizer)
        if self._max_grad_norm:
            # With fp16 an infinite one is an overflow, whose step is left out.
            found["grad_norm"] = nn.utils.clip_grad_norm_(self._learning, self._max_grad_norm).detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._rate = float(self.optimizer.param_groups[0]["lr"])
        if self.scheduler is not None:
            self.scheduler.step()
        # After the optimiser: the target follows what the online encoder has become.
        self.ema.update_target(step, max_steps)
        return found

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return self._rate

    def figures(self, step: int, max_steps: int) -> dict[str, float]:
        """The objective's; where the source encoder learns, momentum of its average and distance from it too."""
        found = self.objective.figures(step, max_steps)
        if self.objective.target == "ema":
            found |= {"tau": self.ema.get_tau(step, max_steps), "ema_distance": float(self.ema.distance())}
        return found

    def stop_if_diverged(self, found: Mapping[str, Tensor], sums: MetricSums, step: int) -> None:
        """At once where looking costs nothing, else once per log interval; several processes stop together.

        Raises:
            TrainingDiverged: A loss is NaN or infinite.
        """
        if step % self._log_every == 0:
            require_finite(sums.means(), f"step {step:,}")
        elif self.device.type == "cpu" and not several() and not found["total"].isfinite():
            require_finite(found, f"step {step:,}")

    def require_finite_weights(self, place: str) -> None:
        """Check what learns: a gradient can overflow where no loss does.

        Raises:
            TrainingDiverged: A weight is NaN or infinite.
        """
        if self._learning and not bool(torch.stack([weight.isfinite().all() for weight in self._learning]).all()):
            raise TrainingDiverged(["weights"], place)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and parts of one batch."""
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            found = self._asked(batch["question_emb"], batch.get("steering"))
        total, parts = self.objective(found, batch)
        return total, dict(parts)


def half_precision(config: TrainingConfig, device: torch.device) -> torch.dtype | None:
    """What mixed precision computes in: bf16 where the device has it, else fp16; None on a CPU, which gains nothing."""
    if not config.mixed_precision:
        return None
    if device.type != "cuda":
        _LOG.info("mixed_precision: %s computes in float32, where it is fastest", device.type)
        return None
    if config.precision == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]


def _shares(batch: Batch) -> dict[str, Tensor]:
    """Share of each steering variant."""
    variants = batch.get("steering_variant")
    if variants is None:
        return {}
    return {f"steering_{name}": (variants == number).to(torch.float32).mean() for number, name in enumerate(VARIANTS)}
