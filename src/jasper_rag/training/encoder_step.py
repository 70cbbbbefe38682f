"""One optimiser step of a Gaussian encoder: vectors, head, loss in float32, gradients, clipping, schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.losses.gaussian_losses import GaussianObjective
from jasper_rag.training.encoder_batches import PairTable, Rows, batch_ids
from jasper_rag.training.encoder_config import EncoderTrainingConfig
from jasper_rag.training.encoder_features import BatchFeatures
from jasper_rag.training.processes import average_gradients
from jasper_rag.training.schedules import warmup_cosine


class EncoderStep:
    """What is done with one batch.

    Args:
        model: The encoder.
        objective: Its loss.
        table: The pairs.
        config: Resolved.
        steps: Optimiser steps of the whole run.
        dtype: Of mixed precision; None: none.
    """

    def __init__(
        self,
        model: GaussianEmbeddingGemma,
        objective: GaussianObjective,
        table: PairTable,
        config: EncoderTrainingConfig,
        steps: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model, self.objective = model, objective
        self._table, self._config = table, config
        self.optimizer = build_optimizer(model, config)
        self.scheduler = build_schedule(self.optimizer, config.warmup(steps), steps)
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=dtype is torch.float16)
        self._learning = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.rates = self._current_rates()

    def __call__(self, batch: BatchFeatures) -> dict[str, Tensor]:
        """Train on one batch; total and terms of the loss, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        total, terms = self.loss(self._table, batch.pairs, batch.queries, batch.positives, batch.negatives)
        torch.autograd.backward(self.scaler.scale(total))
        batch.backward()
        average_gradients(self._learning)
        self.scaler.unscale_(self.optimizer)
        if self._config.max_grad_norm:
            nn.utils.clip_grad_norm_(self._learning, self._config.max_grad_norm)
        self.rates = self._current_rates()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return {"total": total.detach(), **terms}

    def loss(
        self, table: PairTable, pairs: Rows, queries: Tensor, positives: Tensor, negatives: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and terms of the base's vectors [B, D] of pairs."""
        model, device = self.model, queries.device
        asked, answers = model.project(queries), model.project(positives)
        predicted = None if model.predictor is None else model.predict_query(asked)
        ids = {name: torch.from_numpy(rows).to(device) for name, rows in batch_ids(table, pairs).items()}
        total, terms = self.objective(
            asked, answers, None if negatives is None else model.project(negatives), predicted, **ids
        )
        return total, dict(terms)

    def _current_rates(self) -> dict[str, float]:
        return {group["name"]: float(group["lr"]) for group in self.optimizer.param_groups}


def build_optimizer(model: GaussianEmbeddingGemma, config: EncoderTrainingConfig) -> Optimizer:
    """AdamW with a rate of its own for base and head, whichever of them is trained."""
    assert config.learning_rate is not None
    groups = model.parameter_groups(config.learning_rate, config.base_learning_rate, config.projection_learning_rate)
    fused = model.device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=fused)


def build_schedule(optimizer: Optimizer, warmup: int, steps: int) -> LambdaLR:
    """Linear warm-up over `warmup` optimiser steps, then a cosine to 0 at `steps`; to be stepped after every one."""
    return LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, steps, 0.0))


def build_objective(config: EncoderTrainingConfig, dimension: int) -> GaussianObjective:
    """The loss that a resolved configuration describes."""
    assert config.margin is not None
    assert config.queue_size is not None
    assert config.loss != "auto"
    return GaussianObjective(
        dimension,
        contrastive=config.lambda_contrastive,
        isotropy=config.lambda_isotropy,
        regularization=config.lambda_reg,
        predictive=config.lambda_predictive,
        stop_gradient=config.stopgrad,
        kind=config.loss,
        margin=config.margin,
        temperature=config.temperature,
        isotropy_kind=config.isotropy,
        queue_size=config.queue_size,
        seed=config.seed,
    )


def precision(mixed: bool, device: torch.device) -> torch.dtype | None:
    """What mixed precision computes in: bfloat16 where the GPU has it, else float16; None on a CPU."""
    if not mixed or device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def means(found: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Mean of each figure over the steps; read from the device at once."""
    if not found:
        return {}
    names = list(found[0])
    table = torch.stack([torch.stack([row[name].float() for name in names]) for row in found])
    return dict(zip(names, table.double().mean(dim=0).tolist(), strict=True))
