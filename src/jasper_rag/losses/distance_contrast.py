"""Contrastive losses on L2 distances between embeddings that are not normalised: a margin, and InfoNCE."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.losses.contrastive import rows_among
from jasper_rag.losses.gathering import first_row, gather_rows
from jasper_rag.losses.unit_rows import full_precision, unit_rows, widened

Geometry = Literal["l2", "cosine"]


def margin_contrastive(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    margin: float = 1.0,
    *,
    positive_ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    known_positives: Tensor | None = None,
) -> Tensor:
    """Mean relu(|q - p| - |q - n| + margin), L2 distances; FaceNet's triplet loss (arXiv:1503.03832) without squares.

    Where a query has no negative, the nearest positive of another query of the batch (of all ranks) is its negative.

    Args:
        queries: [B, d].
        positives: [B, d].
        negatives: [B, d] or [B, K, d].
        margin: In the units of the rows.
        positive_ids: int64 [B], number of each positive; equal ones are no negatives of each other.
        negative_ids: int64 [B] or [B, K]; -1 marks a negative that is missing.
        known_positives: int64 [B, W], further numbers that answer each query; -1 pads.

    Returns:
        Scalar; 0 where nothing is there to contrast with.

    Raises:
        ValueError: Shapes differ.
    """
    check_shapes(queries, positives, negatives)
    with full_precision(queries):
        query, positive = widened(queries), widened(positives)
        own = torch.linalg.vector_norm(query - positive, dim=1)
        answers = _answers(positive_ids, known_positives)
        hardest, found = _hardest_other(query, positive, positive_ids, answers)
        other = torch.linalg.vector_norm(query - hardest, dim=1)
        terms = functional.relu(own - other + margin) * found
        if negatives is None:
            return terms.mean()
        mined = widened(negatives).reshape(len(query), -1, query.shape[1])
        apart = torch.linalg.vector_norm(query.unsqueeze(1) - mined, dim=2)
        usable = _usable(negative_ids, answers, mined)
        given = (functional.relu(own.unsqueeze(1) - apart + margin) * usable).sum(dim=1)
        counts = usable.sum(dim=1)
        return torch.where(counts > 0, given / counts.clamp_min(1), terms).mean()


def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    temperature: float = 0.05,
    *,
    positive_ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    known_positives: Tensor | None = None,
    geometry: Geometry = "l2",
) -> Tensor:
    """Cross-entropy of the own positive among the positives and mined negatives of all queries of all ranks.

        L = mean_i [ log sum_c exp(-|q_i - c|^2 / (2 d T)) + |q_i - p_i|^2 / (2 d T) ]           (arXiv:1807.03748)

    For rows sqrt(d) e of unit vectors e the logits are cosines over T up to a constant of the row, which cancels: at
    the start this is the usual InfoNCE, and it stays true to retrieval by L2 where lengths come to differ.

    Args:
        queries: [B, d].
        positives: [B, d].
        negatives: [B, d] or [B, K, d].
        temperature: T > 0.
        positive_ids: int64 [B]; see `margin_contrastive`, like the next two.
        negative_ids: int64 [B] or [B, K].
        known_positives: int64 [B, W].
        geometry: "cosine": rows are brought to one length first.

    Returns:
        Scalar in nats; 0 for one query without negatives.

    Raises:
        ValueError: The temperature is not positive, the geometry unknown, or shapes differ.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    if geometry not in ("l2", "cosine"):
        raise ValueError(f"the geometry must be l2 or cosine, got {geometry!r}.")
    check_shapes(queries, positives, negatives)
    count, width = queries.shape
    scale = math.sqrt(width)
    with full_precision(queries):
        unit = (lambda rows: unit_rows(rows) * scale) if geometry == "cosine" else widened
        query, candidates = unit(queries), gather_rows(unit(positives))
        answers = _answers(positive_ids, known_positives)
        columns = torch.arange(count, device=queries.device)
        label = columns + first_row(count)
        hidden = queries.new_zeros(count, len(candidates), dtype=torch.bool)
        if answers is not None and positive_ids is not None:
            hidden = rows_among(answers, gather_rows(positive_ids))
            hidden[columns, label] = False
        if negatives is not None:
            mined = gather_rows(unit(negatives.reshape(-1, width)))
            candidates = torch.cat([candidates, mined])
            blank = hidden.new_zeros(count, len(mined))
            hidden = torch.cat([hidden, _hidden_negatives(negative_ids, answers, blank)], dim=1)
        # |q|^2 is the same for all candidates of a query.
        logits = query @ candidates.T - candidates.square().sum(dim=1) / 2
        logits = (logits / (width * temperature)).masked_fill(hidden, float("-inf"))
        return functional.cross_entropy(logits, label)


def check_shapes(queries: Tensor, positives: Tensor, negatives: Tensor | None) -> None:
    """Raise a ValueError unless queries and positives are [B, d], negatives [B, d], [B, K, d] or None."""
    if queries.ndim != 2 or queries.shape != positives.shape:
        raise ValueError(f"queries {list(queries.shape)} for positives {list(positives.shape)}; expected [B, d] twice.")
    if negatives is None:
        return
    shape = negatives.shape
    if negatives.ndim not in (2, 3) or (shape[0], shape[-1]) != tuple(queries.shape):
        raise ValueError(f"negatives {list(shape)} for queries {list(queries.shape)}; expected [B, d] or [B, K, d].")


def _answers(positive_ids: Tensor | None, known_positives: Tensor | None) -> Tensor | None:
    if positive_ids is None:
        return known_positives
    own = positive_ids.unsqueeze(1)
    return own if known_positives is None else torch.cat([known_positives, own], dim=1)


def _usable(negative_ids: Tensor | None, answers: Tensor | None, mined: Tensor) -> Tensor:
    """Which negatives [B, K, d] are there and do not answer their own query: bool [B, K]."""
    count, each, _ = mined.shape
    if negative_ids is None:
        return torch.ones(count, each, dtype=torch.bool, device=mined.device)
    numbers = negative_ids.reshape(count, each)
    usable = numbers >= 0
    if answers is not None:
        usable &= ~(numbers.unsqueeze(2) == answers.unsqueeze(1)).any(dim=2)
    return usable


def _hidden_negatives(negative_ids: Tensor | None, answers: Tensor | None, blank: Tensor) -> Tensor:
    """Which of everybody's negatives are missing, or answer a query: bool, of the shape [B, N] of `blank`."""
    if negative_ids is None:
        return blank
    numbers = gather_rows(negative_ids.reshape(-1))
    hidden = blank | (numbers < 0)
    return hidden if answers is None else hidden | rows_among(answers, numbers)


def _hardest_other(
    query: Tensor, positive: Tensor, positive_ids: Tensor | None, answers: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The nearest positive of another query [B, d], and whether there is one [B]."""
    # Without gradient nothing would be gathered, so all of it is before.
    candidates, start = gather_rows(positive), first_row(len(query))
    numbers = None if positive_ids is None else gather_rows(positive_ids)
    with torch.no_grad():
        distances = torch.cdist(query, candidates)
        columns = torch.arange(len(query), device=query.device)
        hidden = torch.zeros_like(distances, dtype=torch.bool)
        if answers is not None and numbers is not None:
            hidden = rows_among(answers, numbers)
        hidden[columns, columns + start] = True
        nearest = distances.masked_fill(hidden, float("inf")).min(dim=1)
    return candidates[nearest.indices], nearest.values.isfinite()
