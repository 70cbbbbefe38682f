"""The losses of the JASPER predictor and their weighted sum.

    total = lambda_jasper SmoothL1 + lambda_contrastive InfoNCE + lambda_centroid CE + lambda_vicreg VICReg

Every loss returns a dict of scalars by name. Nothing in here waits for the device: a caller takes the numbers out when
it logs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.losses.contrastive import ContrastiveLoss as ContrastiveLoss
from jasper_rag.losses.gathering import Reduction, check_reduction, over_all_ranks, weighted_mean
from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.losses.unit_rows import EPS, UnitRows, full_precision, widened
from jasper_rag.losses.vicreg import VICRegLoss as VICRegLoss


class JASPERLoss(nn.Module):
    """Smooth L1 between prediction and target (Huber's, divided by beta).

        l(x) = x^2 / (2 beta) where |x| < beta, else |x| - beta / 2

    Args:
        beta: Where the parabola turns into a line; 0 is the absolute difference.
        reduction: "mean" over all coordinates, or their "sum".

    Raises:
        ValueError: beta is negative or the reduction unknown.
    """

    def __init__(self, beta: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        if not beta >= 0:
            raise ValueError(f"beta must not be negative, got {beta}.")
        check_reduction(reduction)
        self.beta = beta
        self.reduction: Reduction = reduction

    def forward(self, predicted: Tensor, target: Tensor, *, weight: Tensor | None = None) -> dict[str, Tensor]:
        """{"jasper": scalar} of predictions and targets [B, D], rows weighted by `weight` [B].

        Raises:
            ValueError: The shapes differ.
        """
        if predicted.shape != target.shape:
            raise ValueError(f"predictions {list(predicted.shape)} for targets {list(target.shape)}.")
        with full_precision(predicted):
            predicted, target = widened(predicted), widened(target)
            if weight is None:
                mean = functional.smooth_l1_loss(predicted, target, beta=self.beta)
            else:
                weight = weight.to(predicted)
                each = functional.smooth_l1_loss(predicted, target, beta=self.beta, reduction="none")
                mean = weighted_mean(each.mean(dim=1), weight)
            if self.reduction == "sum":
                mean = mean * predicted.shape[1]
            return {"jasper": over_all_ranks(mean, weight, self.reduction, len(predicted))}


class CentroidLoss(nn.Module):
    """Cross-entropy of the right cluster; logits are the cosines with the centroids divided by the temperature.

    Args:
        temperature: T > 0.

    Raises:
        ValueError: The temperature is not positive.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self._unit_centroids = UnitRows()

    def forward(
        self, predicted: Tensor, centroid_embs: Tensor, cluster_ids: Tensor, *, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Loss in nats and, detached, the share of predictions nearest to the right centroid.

        Args:
            predicted: [B, D].
            centroid_embs: [C, D]; may carry gradient.
            cluster_ids: int64 [B], row of `centroid_embs`.
            weight: [B] non-negative, for both numbers; equal when None.

        Returns:
            {"centroid", "centroid_acc"}, scalars.
        """
        with full_precision(predicted):
            predicted = widened(predicted)
            weight = None if weight is None else weight.to(predicted)
            # Dividing [B, C] by the lengths takes half the passes of normalising [B, D].
            lengths = torch.linalg.vector_norm(predicted, dim=1, keepdim=True).clamp_min(EPS)
            logits = predicted @ self._unit_centroids(centroid_embs).T / (lengths * self.temperature)
            loss = weighted_mean(functional.cross_entropy(logits, cluster_ids, reduction="none"), weight)
            right = (logits.detach().argmax(dim=1) == cluster_ids).to(logits)
            return {
                "centroid": over_all_ranks(loss, weight, "mean", len(predicted)),
                "centroid_acc": over_all_ranks(weighted_mean(right, weight), weight, "mean", len(predicted)),
            }


class JASPERMultiObjectiveLoss(nn.Module):
    """Weighted sum of the four losses. A term of weight 0 is not computed and its names are absent.

    The weights `lambda_jasper`, `lambda_contrastive`, `lambda_centroid` and `lambda_vicreg` are attributes and may be
    changed between steps; `set_weights` checks them.

    Args:
        lambda_jasper: Weight of `JASPERLoss`.
        lambda_contrastive: Weight of `ContrastiveLoss`.
        lambda_centroid: Weight of `CentroidLoss`.
        lambda_vicreg: Weight of `VICRegLoss`.
        jasper_beta: beta of `JASPERLoss`.
        contrastive_temperature: Temperature of `ContrastiveLoss`.
        centroid_temperature: Temperature of `CentroidLoss`.
        vicreg_lambda_v: lambda_v of `VICRegLoss`.
        vicreg_lambda_i: lambda_i of `VICRegLoss`.
        vicreg_lambda_c: lambda_c of `VICRegLoss`.
        in_batch: Of `ContrastiveLoss`.
        vicreg_scale: scale of `VICRegLoss`.

    Raises:
        ValueError: A weight is negative, or a term's own argument is wrong.
    """

    def __init__(
        self,
        lambda_jasper: float = 1.0,
        lambda_contrastive: float = 0.5,
        lambda_centroid: float = 0.1,
        lambda_vicreg: float = 0.1,
        jasper_beta: float = 1.0,
        contrastive_temperature: float = 0.07,
        centroid_temperature: float = 0.1,
        vicreg_lambda_v: float = 25.0,
        vicreg_lambda_i: float = 25.0,
        vicreg_lambda_c: float = 1.0,
        *,
        in_batch: bool = True,
        vicreg_scale: bool = True,
    ) -> None:
        super().__init__()
        self.lambda_jasper = lambda_jasper
        self.lambda_contrastive = lambda_contrastive
        self.lambda_centroid = lambda_centroid
        self.lambda_vicreg = lambda_vicreg
        self.set_weights(self.weights)
        self.jasper = JASPERLoss(jasper_beta)
        self.contrastive = ContrastiveLoss(contrastive_temperature, in_batch=in_batch)
        self.centroid = CentroidLoss(centroid_temperature)
        self.vicreg = VICRegLoss(vicreg_lambda_v, vicreg_lambda_i, vicreg_lambda_c, scale=vicreg_scale)

    @classmethod
    def from_config(cls, config: LossConfig) -> JASPERMultiObjectiveLoss:
        """The loss of a configuration, with the weights of epoch 0; later ones: `set_weights(config.weights_at(e))`."""
        settings = config.model_dump(exclude={"negatives", "stages"}) | config.weights_at(0)
        return cls(**settings, in_batch=config.negatives != "hard")

    @property
    def weights(self) -> Mapping[str, float]:
        """The four weights by name, to be looked at."""
        return MappingProxyType(
            {
                "lambda_jasper": self.lambda_jasper,
                "lambda_contrastive": self.lambda_contrastive,
                "lambda_centroid": self.lambda_centroid,
                "lambda_vicreg": self.lambda_vicreg,
            }
        )

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Change the weights named in `weights`.

        Raises:
            ValueError: A name is unknown or a weight is negative.
        """
        known = self.weights
        for name, weight in weights.items():
            if name not in known:
                raise ValueError(f"no weight {name!r}; there are {', '.join(known)}.")
            if not weight >= 0:
                raise ValueError(f"{name} must not be negative, got {weight}.")
        for name, weight in weights.items():
            setattr(self, name, weight)

    def forward(
        self,
        predicted: Tensor,
        ema_target: Tensor,
        negatives: Tensor | None = None,
        centroid_embs: Tensor | None = None,
        cluster_ids: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        target_rows: Tensor | None = None,
        known_positives: Tensor | None = None,
        negative_rows: Tensor | None = None,
        sources: Tensor | None = None,
        contrastive_target: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and all numbers by name.

        Args:
            predicted: [B, D].
            ema_target: [B, D], what `JASPERLoss` and `VICRegLoss` aim at.
            negatives: [B, K, D], of `ContrastiveLoss`, as the next six.
            centroid_embs: [C, D], of `CentroidLoss`.
            cluster_ids: int64 [B], of `CentroidLoss`.
            weight: [B] non-negative, of all terms but VICReg; equal when None.
            target_rows: int64 [B].
            known_positives: int64 [B, W].
            negative_rows: int64 [B, K].
            sources: [M, D].
            contrastive_target: [B, D] where it differs from `ema_target`.

        Returns:
            The total with gradient, and {"total", "jasper", "contrastive", "centroid", "centroid_acc", "vicreg",
            "vicreg_v", "vicreg_i", "vicreg_c"}: scalars, all detached but the total, unweighted.

        Raises:
            ValueError: Every weight is 0, or a term of weight > 0 lacks an input.
        """
        total: list[Tensor] = []
        numbers: dict[str, Tensor] = {}

        def add(name: str, factor: float, found: Mapping[str, Tensor]) -> None:
            total.append(factor * found[name])
            numbers.update({key: value.detach() for key, value in found.items()})

        if self.lambda_jasper:
            add("jasper", self.lambda_jasper, self.jasper(predicted, ema_target, weight=weight))
        if self.lambda_contrastive:
            found = self.contrastive(
                predicted,
                ema_target if contrastive_target is None else contrastive_target,
                negatives,
                weight=weight,
                target_rows=target_rows,
                known_positives=known_positives,
                negative_rows=negative_rows,
                sources=sources,
            )
            add("contrastive", self.lambda_contrastive, found)
        if self.lambda_centroid:
            if centroid_embs is None or cluster_ids is None:
                missing = "centroid_embs" if centroid_embs is None else "cluster_ids"
                raise ValueError(f"lambda_centroid is {self.lambda_centroid}, which needs {missing}; got None.")
            add("centroid", self.lambda_centroid, self.centroid(predicted, centroid_embs, cluster_ids, weight=weight))
        if self.lambda_vicreg:
            add("vicreg", self.lambda_vicreg, self.vicreg(predicted, ema_target))
        if not total:
            raise ValueError("every weight of the loss is 0; nothing would be learnt.")
        loss = torch.stack(total).sum()
        return loss, {"total": loss, **numbers}


JEPALoss = JASPERLoss
JEPAMultiObjectiveLoss = JASPERMultiObjectiveLoss
