"""From a batch to its loss: which space the targets live in, and what each term is given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.data.batch import Batch
from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss
from jasper_rag.losses.loss_config import LossConfig, Negatives
from jasper_rag.models.ema_encoder import EMAEncoder
from jasper_rag.training.batch_source import BatchSource
from jasper_rag.training.health import PREDICTION_COSINE

Target = Literal["identity", "ema"]


class Objective:
    """The loss of a batch, and what of the model it looks at; a subclass may look at more than predictions.

    Args:
        loss_fn: Called with (predicted, ema_target, negatives, centroids, cluster ids).
        ema_encoder: Maps sources where `target` is "ema"; positives, negatives, sources, centroids go through it.
        source: Where batches come from; its sources and centroids are used.
        target: "identity": sources are aimed at as they are. None: "ema" where the online encoder has parameters that
            learn, else "identity".
        negatives: "sources": softmax over all sources of the split, where the batches say their rows; "batch": the
            batch's other targets and the hard negatives; "hard": the hard negatives alone.
        stages: Weights of the loss by epoch; None: they stay as they are.
    """

    def __init__(
        self,
        loss_fn: nn.Module,
        ema_encoder: EMAEncoder,
        source: BatchSource,
        target: Target | None = None,
        negatives: Negatives = "sources",
        stages: LossConfig | None = None,
    ) -> None:
        self.loss_fn = loss_fn
        self.ema = ema_encoder
        self.source = source
        learns = any(parameter.requires_grad for parameter in ema_encoder.online_encoder.parameters())
        self.target: Target = target or ("ema" if learns else "identity")
        self.negatives: Negatives = negatives
        self._stages = stages

    def over(self, source: BatchSource) -> Self:
        """The same objective, with the same state, over the batches of another split."""
        other = copy.copy(self)
        other.source = source
        return other

    def asked(self, model: nn.Module) -> Callable[..., Any]:
        """What of the model is called with (question [B, D], steering [B, D] or None); its answer is the loss's."""
        return model

    def begin_epoch(self, epoch: int) -> None:
        """Called before the steps of an epoch, counted from 0, also where a resumed run goes on within it."""
        if self._stages is not None and isinstance(self.loss_fn, JASPERMultiObjectiveLoss):
            self.loss_fn.set_weights(self._stages.weights_at(epoch))

    def begin_step(self, step: int, steps: int) -> None:
        """Called before optimiser step `step`, counted from 0, of a run of `steps`."""

    def figures(self, step: int, steps: int) -> dict[str, float]:
        """Numbers of the training that stand where the losses do, after `step` steps."""
        return {}

    def measured(self, model: nn.Module, found: Any, batch: Batch) -> dict[str, Tensor]:
        """Numbers that only a validation takes, scalars, of what `asked` gave for a batch; over parts of one name."""
        return {PREDICTION_COSINE: mean_cosine(found)}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep; tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""

    def __call__(self, predicted: Any, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Total, with gradient, and its parts, without; float32 whatever the prediction is.

        Args:
            predicted: [B, D]; of a subclass, whatever its `asked` gives.
            batch: Its documented keys, and rows of sources where there are some.

        Raises:
            ValueError: A term needs what neither the batch nor its source has.
        """
        predicted = predicted.float()
        target, negatives = self._targets(batch), batch.get("negative_embs")
        centroids = self.source.centroids
        sources = self.source.sources if self.negatives == "sources" and "target_rows" in batch else None
        contrastive_target = None
        if self.target == "ema":
            contrastive_target = self._online(target)
            target = functional.normalize(self.ema.encode_target(target), dim=-1)
            negatives = None if negatives is None else self._online(negatives)
            sources = None if sources is None else self._online(sources)
            if centroids is not None:
                centroids = functional.normalize(self.ema.encode_target(centroids), dim=-1)
        clusters = batch.get("cluster_id")
        if not isinstance(self.loss_fn, JASPERMultiObjectiveLoss):
            total, parts = self.loss_fn(predicted, target, negatives, centroids, clusters)
            return total, {name: value for name, value in parts.items() if name != "total"}
        rows = {key: batch[key] for key in ("target_rows", "known_positives", "negative_rows") if key in batch}
        total, parts = self.loss_fn(
            predicted,
            target,
            negatives,
            centroids,
            clusters,
            weight=batch.get("relevance"),
            sources=sources,
            contrastive_target=contrastive_target,
            **rows,
        )
        return total, {name: value for name, value in parts.items() if name != "total"}

    def _targets(self, batch: Batch) -> Tensor:
        found = batch.get("target_source_emb")
        if found is not None:
            return found
        if self.source.sources is None:
            raise ValueError("a batch has no target_source_emb")
        return self.source.sources[batch["target_rows"]]

    def _online(self, vectors: Tensor) -> Tensor:
        shape = vectors.shape
        online: Tensor = functional.normalize(self.ema(vectors.reshape(-1, shape[-1])), dim=-1)
        return online.view(shape)


def mean_cosine(vectors: Tensor) -> Tensor:
    """Mean cosine of two different rows: (|sum of unit rows|^2 - B) / (B (B - 1)), 0 for a single row."""
    count = len(vectors)
    total = functional.normalize(vectors.float(), dim=1).sum(dim=0).square().sum()
    return (total - count) / max(count * (count - 1), 1) if count > 1 else total * 0
