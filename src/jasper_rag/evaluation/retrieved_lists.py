"""Ranking metrics of one query's list of whatever identifies a document; the arithmetic is `metrics.ranking`'s."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from jasper_rag.metrics.judgements import Judgements
from jasper_rag.metrics.ranking import IntArray, average_precision, ndcg, recall, reciprocal_rank


def recall_at_k(
    retrieved: Sequence[Hashable], relevant: Iterable[Hashable], k_values: Sequence[int]
) -> dict[int, float]:
    """Share of the relevant documents among the first k, for each k.

    A key is the k that was asked for, also where fewer were retrieved. A document listed twice counts once; without
    relevant documents the share is 0.

    Args:
        retrieved: Documents, best first.
        relevant: Documents that answer the query.
        k_values: Cut-offs, each at least 1.

    Raises:
        ValueError: A k is below 1.
    """
    ranked, judgements = _as_rows(retrieved, relevant)
    return {k: float(recall(ranked, judgements, k)[0]) for k in k_values}


def reciprocal_rank_of(retrieved: Sequence[Hashable], relevant: Iterable[Hashable]) -> float:
    """1 / rank of the first relevant document, 0 without one; its mean over queries is MRR."""
    ranked, judgements = _as_rows(retrieved, relevant)
    return float(reciprocal_rank(ranked, judgements, max(1, len(retrieved)))[0])


def ndcg_at_k(retrieved: Sequence[Hashable], relevant: Iterable[Hashable], k: int = 10) -> float:
    """nDCG@k with relevance 0 or 1; the ideal has min(k, relevant documents) hits, however many were retrieved.

    Raises:
        ValueError: k is below 1.
    """
    ranked, judgements = _as_rows(retrieved, relevant)
    return float(ndcg(ranked, judgements, k)[0])


def average_precision_at_k(retrieved: Sequence[Hashable], relevant: Iterable[Hashable], k: int = 100) -> float:
    """AP@k, divided by all relevant documents; its mean over queries is MAP@k.

    Raises:
        ValueError: k is below 1.
    """
    ranked, judgements = _as_rows(retrieved, relevant)
    return float(average_precision(ranked, judgements, k)[0])


def _as_rows(retrieved: Sequence[Hashable], relevant: Iterable[Hashable]) -> tuple[IntArray, Judgements]:
    """Documents as numbers: ranked int64 [1, n], and the judgements of one query."""
    wanted = list(dict.fromkeys(relevant))
    numbers = {document: number for number, document in enumerate(dict.fromkeys([*wanted, *retrieved]))}
    ranked = np.array([[numbers[document] for document in retrieved]], dtype=np.int64).reshape(1, len(retrieved))
    count = len(wanted)
    grades = np.ones(count, dtype=np.int64)
    return ranked, Judgements(np.array([0, count]), np.arange(count, dtype=np.int64), grades)
