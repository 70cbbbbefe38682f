"""Steering vectors of a batch, from questions, centroids and keywords. The equations stand in `dataset_layout`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.data.keyword_lists import KeywordLists

_TINY = 1e-8
"""A vector no longer than this has no direction."""


def along_the_line(questions: Tensor, centroids: Tensor, unit: Tensor, whole: Tensor) -> Tensor:
    """Steering on the line from question to centroid, all variants of a batch in one pass.

        s = (c - q) (unit / |c - q| + whole),  1 / |c - q| taken as 0 where |c - q| <= 1e-8

    so that unit = 1 gives centroid steering, whole = -1 the residual, and 0 twice no steering.

    Args:
        questions: [B, D].
        centroids: [B, D], of the pair's cluster; overwritten with the result.
        unit: [B, 1].
        whole: [B, 1].
    """
    difference = centroids.sub_(questions)
    return difference.mul_(torch.addcmul(whole, _inverse_lengths(difference), unit))


def keyword_steering(lists: KeywordLists, embeddings: Tensor) -> Tensor:
    """Direction of the weighted sum of a pair's keyword embeddings; zeros where the sum is no longer than 1e-8.

    Args:
        lists: Keywords of B pairs.
        embeddings: Of all keywords, [n_keywords, D].

    Returns:
        [B, D].
    """
    device = embeddings.device
    sums = functional.embedding_bag(
        lists.values.to(device),
        embeddings,
        lists.offsets.to(device),
        mode="sum",
        per_sample_weights=None if lists.weights is None else lists.weights.to(device),
        include_last_offset=True,
    )
    return sums.mul_(_inverse_lengths(sums))


def _inverse_lengths(vectors: Tensor) -> Tensor:
    lengths = cast(Tensor, torch.linalg.vector_norm(vectors, dim=1, keepdim=True))
    return torch.where(lengths > _TINY, lengths.reciprocal(), 0.0)
