"""Validation of a model: the losses it was trained by, and what retrieval makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.models.ema_encoder import EMAEncoder
from jasper_rag.training.batch_source import dataset_of, source_of
from jasper_rag.training.metric_sums import MetricSums
from jasper_rag.training.objective import Objective
from jasper_rag.training.processes import of_the_first
from jasper_rag.training.retrieval_validation import DatasetRetrieval, RetrievalValidation

_ROWS = 8192
"""Questions predicted at a time."""


class Validation:
    """Measures a model on the held-out split.

    Args:
        objective: Of the training; its space of targets and its loss are used.
        loader: Of the validation losses; None: none.
        loss: What the batches must hold.
        retrieval: Ranks held-out questions; None: the loader's dataset, where it is a steering dataset.
        device: Where it happens.
    """

    def __init__(
        self,
        objective: Objective,
        loader: Any,
        loss: LossConfig | None,
        retrieval: RetrievalValidation | None,
        device: torch.device,
    ) -> None:
        self._source = None if loader is None else source_of(loader, loss, device)
        self._training = objective
        self._device = device
        if retrieval is None and isinstance(dataset_of(loader), JASPERSteeringDataset):
            retrieval = DatasetRetrieval(dataset_of(loader))
        self._retrieval = retrieval
        self._objective: Objective | None = None
        if self._source is not None:
            self._objective = objective.over(self._source)

    def usable(self, metric: str) -> str:
        """The metric that chooses the best model: `metric`, or the loss where nothing is ranked."""
        return "val/total" if self._retrieval is None and "@" in metric else metric

    @torch.no_grad()
    def __call__(self, model: nn.Module, ema_encoder: EMAEncoder) -> dict[str, float]:
        """Losses and ranking metrics, by name; of the first process where there are several. Modes stay as they are."""
        modes = model.training, ema_encoder.training
        model.eval()
        ema_encoder.eval()
        found = self._losses(model)
        if self._retrieval is not None:
            project = projection(ema_encoder) if self._training.target == "ema" else None
            found |= self._retrieval(lambda questions, steering: predict(model, questions, steering), project)
        model.train(modes[0])
        ema_encoder.train(modes[1])
        return of_the_first(found, self._device)

    def _losses(self, model: nn.Module) -> dict[str, float]:
        if self._source is None or self._objective is None:
            return {}
        sums, asked = MetricSums(self._device), self._objective.asked(model)
        for batch in self._source.epoch(0):
            found = asked(batch["question_emb"], batch.get("steering"))
            total, parts = self._objective(found, batch)
            measured = self._objective.measured(model, found, batch)
            sums.add({"total": total, **parts, **measured}, len(batch["question_emb"]))
        return sums.means()

    @staticmethod
    def summary(row: Mapping[str, float]) -> str:
        """The figures of an epoch in a line."""
        parts = [f"loss {row['train/total']:.4f}"] if "train/total" in row else []
        if "val/total" in row:
            parts.append(f"val loss {row['val/total']:.4f}")
        if "val/ndcg@10" in row:
            parts.append(f"val nDCG@10 {row['val/ndcg@10']:.4f} (question alone {row['val/ndcg@10_question']:.4f})")
        return ", ".join(parts)


def predict(model: nn.Module, questions: Tensor, steering: Tensor | None) -> Tensor:
    """Predictions [Q, D] for questions [Q, D] with steering [Q, D] or none, a block at a time."""
    asked = torch.split(questions, _ROWS)
    guides = [None] * len(asked) if steering is None else torch.split(steering, _ROWS)
    return torch.cat([model(some, guide) for some, guide in zip(asked, guides, strict=True)])


def projection(ema_encoder: EMAEncoder) -> Any:
    """The sources as an index would hold them: through the target encoder, of length 1."""
    return lambda sources: functional.normalize(ema_encoder.encode_target(sources), dim=-1)
