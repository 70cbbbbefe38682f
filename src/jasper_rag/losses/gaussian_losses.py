"""What a Gaussian encoder is trained with: a contrastive term, isotropy per side, a scale, a prediction.

Embeddings are compared by L2 distance and not normalised; an isotropic one has |x|^2 = d, a coordinate a standard
deviation of 1. Distances enter the losses in units of sqrt(d), so that margins and temperatures mean the same at every
width: unrelated rows are about sqrt(2) apart, and L2 between rows sqrt(d) e is the L2 between unit vectors e.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from jasper_rag.losses.distance_contrast import Geometry, check_shapes
from jasper_rag.losses.distance_contrast import info_nce as info_nce
from jasper_rag.losses.distance_contrast import margin_contrastive as margin_contrastive
from jasper_rag.losses.gathering import gather_rows
from jasper_rag.losses.isotropy import IsotropyKind, IsotropyLoss
from jasper_rag.losses.isotropy import covariance_isotropy as covariance_isotropy
from jasper_rag.losses.isotropy import sigreg_closed as sigreg_closed
from jasper_rag.losses.isotropy import sigreg_sliced as sigreg_sliced
from jasper_rag.losses.unit_rows import full_precision, unit_rows, widened

ContrastiveKind = Literal["infonce", "margin"]


def predictive(predicted: Tensor, positives: Tensor, *, stop_gradient: bool = True) -> Tensor:
    """Mean |p/|p| - t/|t||^2 = mean 2 - 2 cos(p, t), in [0, 4]: the JEPA term, t without gradient (arXiv:2301.08243).

    Directions are compared, since a plain squared error also falls when everything shrinks.

    Args:
        predicted: p, [B, d].
        positives: t, [B, d].
        stop_gradient: Off, the gradient reaches t as well.
    """
    with full_precision(predicted):
        targets = positives.detach() if stop_gradient else positives
        return (unit_rows(predicted) - unit_rows(targets)).square().sum(dim=1).mean()


class GaussianObjective(nn.Module):
    """The weighted sum of the terms, each weighted once, and the terms for the log.

    With `predicted`, which is what is searched with, the contrastive term compares that with the documents; isotropy
    and the scale judge the encoder's own output.

    Args:
        dimension: d.
        contrastive: Weight; a term of weight 0 is not computed.
        isotropy: Weight of the mean over both sides.
        regularization: Weight of (std - 1)^2, the standard deviation over all entries of both sides.
        predictive: Weight; needs `predicted`.
        stop_gradient: Of the predictive term; see `predictive`.
        kind: "infonce" or "margin".
        margin: Of "margin", in units of sqrt(d).
        temperature: Of "infonce".
        geometry: Of "infonce".
        isotropy_kind: "closed", "sliced" or "covariance".
        queue_size: Earlier rows that each side's isotropy is judged with; 0 for none.
        slices: Directions of "sliced".
        seed: Of these directions.

    Raises:
        ValueError: A weight is negative or a setting unknown.
    """

    def __init__(
        self,
        dimension: int,
        *,
        contrastive: float = 1.0,
        isotropy: float = 0.02,
        regularization: float = 0.1,
        predictive: float = 0.0,
        stop_gradient: bool = True,
        kind: ContrastiveKind = "infonce",
        margin: float = 1.0,
        temperature: float = 0.05,
        geometry: Geometry = "l2",
        isotropy_kind: IsotropyKind = "closed",
        queue_size: int = 1024,
        slices: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not min(contrastive, isotropy, regularization, predictive) >= 0:
            raise ValueError("weights of the objective must not be negative.")
        if kind not in ("infonce", "margin"):
            raise ValueError(f"the contrastive kind must be infonce or margin, got {kind!r}.")
        self.dimension, self.kind, self.geometry = dimension, kind, geometry
        self.margin, self.temperature, self.stop_gradient = margin, temperature, stop_gradient
        self.weights = {
            "contrastive": contrastive,
            "isotropy": isotropy,
            "regularization": regularization,
            "predictive": predictive,
        }
        self.sides = nn.ModuleDict()
        if isotropy:
            for number, side in enumerate(("queries", "positives")):
                self.sides[side] = IsotropyLoss(
                    isotropy_kind, dimension, queue_size=queue_size, slices=slices, seed=2 * seed + number
                )

    def forward(
        self,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor | None = None,
        predicted: Tensor | None = None,
        positive_ids: Tensor | None = None,
        negative_ids: Tensor | None = None,
        known_positives: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, with gradient, and its terms, unweighted and detached.

        Args:
            queries: [B, d].
            positives: [B, d].
            negatives: [B, d] or [B, K, d].
            predicted: [B, d], what the predictor makes of the queries.
            positive_ids: int64 [B]; see `margin_contrastive`, like the next two.
            negative_ids: int64 [B] or [B, K].
            known_positives: int64 [B, W].

        Returns:
            total, and {"contrastive", "isotropy", "regularization", "predictive", "pos_distance", "embedding_std"}: the
            last two in units of sqrt(d) and 1; terms of weight 0 are 0. Isotropy is 0 at a Gaussian, for SIGReg T less
            1.059.

        Raises:
            ValueError: Shapes differ, or `predicted` is missing for a term that needs it.
        """
        check_shapes(queries, positives, negatives)
        if self.weights["predictive"] and predicted is None:
            raise ValueError("the predictive term needs what a predictor made of the queries; got None.")
        searched = queries if predicted is None else predicted
        terms: dict[str, Tensor] = {}
        if self.weights["contrastive"]:
            ids = {"positive_ids": positive_ids, "negative_ids": negative_ids, "known_positives": known_positives}
            terms["contrastive"] = self._contrast(searched, positives, negatives, ids)
        if self.weights["isotropy"]:
            sides = {"queries": queries, "positives": positives}
            terms["isotropy"] = torch.stack([self.sides[name](rows) for name, rows in sides.items()]).mean()
        deviation = self._deviation(queries, positives, self.weights["regularization"] > 0)
        if self.weights["regularization"]:
            terms["regularization"] = (deviation - 1).square()
        if self.weights["predictive"] and predicted is not None:
            terms["predictive"] = predictive(predicted, positives, stop_gradient=self.stop_gradient)
        weighted = [self.weights[name] * value for name, value in terms.items()]
        total = torch.stack(weighted).sum() if weighted else 0 * widened(queries).sum()
        with torch.no_grad():
            apart = torch.linalg.vector_norm(widened(searched) - widened(positives), dim=1).mean()
            report = {name: terms[name].detach() if name in terms else total.new_zeros(()) for name in self.weights}
            report["pos_distance"] = apart / math.sqrt(self.dimension)
            report["embedding_std"] = deviation.detach()
        return total, report

    def _contrast(
        self, queries: Tensor, positives: Tensor, negatives: Tensor | None, ids: dict[str, Tensor | None]
    ) -> Tensor:
        if self.kind == "infonce":
            return info_nce(queries, positives, negatives, self.temperature, geometry=self.geometry, **ids)
        # The loss is homogeneous: a margin m between rows over sqrt(d) is m sqrt(d) between the rows.
        unit = math.sqrt(self.dimension)
        return margin_contrastive(queries, positives, negatives, self.margin * unit, **ids) / unit

    @staticmethod
    def _deviation(queries: Tensor, positives: Tensor, learns: bool) -> Tensor:
        with full_precision(queries), torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            entries = torch.cat([widened(queries), widened(positives)])
            # Gathered only for the loss: every rank logs its own.
            return (gather_rows(entries) if learns else entries).std()
