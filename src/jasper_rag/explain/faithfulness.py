"""Are explanations true: does a search change when that is removed which is said to carry it?

For each question the contribution w_k c_k of its likeliest subspace k is taken from the prediction p, and, to compare,
that of another subspace drawn at random. A true explanation loses more score p . d of the returned source d with the
first. The other one mostly has a weight near 0, so a second comparison gives it the weight of the first: w_k c_j.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jasper_rag.models.subspace_predictor import PredictionParts


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """What removing subspaces does to the score of the source returned first, over Q questions.

    Args:
        questions: Q.
        share: Of questions that lose more with their likeliest subspace than with a random other one.
        mean_drop: Mean loss with the likeliest, w_k c_k . d.
        mean_drop_other: Mean loss with the other, w_j c_j . d.
        share_equal_weight: As `share`, with the other at the weight of the first.
        mean_drop_equal_weight: Mean loss with the other at that weight, w_k c_j . d.
    """

    questions: int
    share: float
    mean_drop: float
    mean_drop_other: float
    share_equal_weight: float
    mean_drop_equal_weight: float


def without_subspace(parts: PredictionParts, centroids: Tensor, rows: Tensor) -> Tensor:
    """Predictions less the contribution of one subspace each:  p - w_k c_k,  [Q, D].

    Where a prediction was scaled to length 1 the contribution is scaled as its coarse part was.

    Args:
        parts: Of Q predictions.
        centroids: [K, D].
        rows: k, int64 [Q].

    Raises:
        ValueError: Shapes differ, or a row is no subspace.
    """
    _check(parts, centroids, rows)
    prediction = parts.question + parts.coarse + parts.fine + parts.steering
    return prediction - _weight(parts, centroids, rows).unsqueeze(1) * centroids[rows]


def faithfulness(
    parts: PredictionParts, centroids: Tensor, documents: Tensor, top_rows: Tensor, seed: int
) -> Faithfulness:
    """Compare the likeliest subspace of Q questions with others.

    Args:
        parts: Of the predictions.
        centroids: [K, D], K at least 2.
        documents: [N, D].
        top_rows: The source returned first for each question, int64 [Q].
        seed: Of the random subspaces.

    Raises:
        ValueError: Shapes differ, there is no question or no second subspace.
    """
    top = parts.routing_weights.argmax(dim=-1)
    _check(parts, centroids, top)
    if len(top) == 0 or len(centroids) < 2 or top_rows.shape != top.shape:
        raise ValueError(
            f"{len(top)} questions with {list(top_rows.shape)} top rows and {len(centroids)} subspaces: at least 1 "
            f"question, a top row each and 2 subspaces are needed."
        )
    generator = torch.Generator().manual_seed(seed)
    step = torch.randint(1, len(centroids), top.shape, generator=generator).to(top.device)
    other = (top + step) % len(centroids)
    sources = documents[top_rows]
    weight = _weight(parts, centroids, top)
    drop = weight * (centroids[top] * sources).sum(dim=-1)
    towards = (centroids[other] * sources).sum(dim=-1)
    drop_other, drop_equal = _weight(parts, centroids, other) * towards, weight * towards
    return Faithfulness(
        questions=len(top),
        share=float((drop > drop_other).double().mean()),
        mean_drop=float(drop.double().mean()),
        mean_drop_other=float(drop_other.double().mean()),
        share_equal_weight=float((drop > drop_equal).double().mean()),
        mean_drop_equal_weight=float(drop_equal.double().mean()),
    )


def _weight(parts: PredictionParts, centroids: Tensor, rows: Tensor) -> Tensor:
    """Weights w_k of one subspace each, [Q], times what the coarse part is of w C: 1 unless predictions are scaled."""
    whole = parts.routing_weights @ centroids
    length = (whole * whole).sum(dim=-1).clamp_min(torch.finfo(whole.dtype).tiny)
    scale = (parts.coarse * whole).sum(dim=-1) / length
    return scale * parts.routing_weights.gather(1, rows.unsqueeze(1)).squeeze(1)


def _check(parts: PredictionParts, centroids: Tensor, rows: Tensor) -> None:
    weights, coarse = parts.routing_weights, parts.coarse
    if tuple(centroids.shape) != (weights.shape[1], coarse.shape[1]) or tuple(rows.shape) != (len(weights),):
        raise ValueError(
            f"centroids {list(centroids.shape)} and rows {list(rows.shape)} do not fit routing weights "
            f"{list(weights.shape)} and parts {list(coarse.shape)}."
        )
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(centroids):
        raise ValueError(f"rows from {int(rows.min())} to {int(rows.max())} for {len(centroids)} subspaces.")
