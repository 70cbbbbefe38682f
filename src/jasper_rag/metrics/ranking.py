"""Ranking metrics over integer document rows, one function per equation, equal to trec_eval.

Shapes: Q queries, K retrieved documents per query, `ranked` int64 [Q, K] of document rows, best first. A row of -1
(any negative number) means "no document here": it keeps its rank and gains nothing. A document listed twice for a
query counts at its first place only; the repeat keeps its rank and gains nothing.

Relevance > 0 is relevant; nDCG also uses the grade. A query without a relevant document scores 0, and so does a query
for which nothing was retrieved (a row of -1): both stay in the mean, so a system cannot gain by not answering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from jasper_rag.metrics.judgements import FloatArray as FloatArray
from jasper_rag.metrics.judgements import IntArray as IntArray
from jasper_rag.metrics.judgements import Judgements as Judgements

DEFAULT_KS: Mapping[str, Sequence[int]] = MappingProxyType(
    {"ndcg": (10,), "recall": (10,), "mrr": (10,), "map": (100,), "precision": (10,)}
)
"""Metric name -> the cut-offs that `evaluate` reports."""


def ndcg(ranked: IntArray, judgements: Judgements, k: int) -> FloatArray:
    """nDCG@k of each query, float64 [Q].

        DCG@k = sum_{r=1..k} grade_r / log2(r + 1),   nDCG@k = DCG@k / DCG@k of the best order of all judged documents

    Linear gain, as trec_eval's `ndcg_cut` (Jaervelin and Kekaelaeinen 2002).
    """
    gains = judgements.gains(ranked, k)
    return _divide(gains @ (1.0 / np.log2(np.arange(2.0, gains.shape[1] + 2.0))), _ideal_dcg(judgements, k))


def recall(ranked: IntArray, judgements: Judgements, k: int) -> FloatArray:
    """Share of a query's relevant documents among its first k, float64 [Q] (trec_eval `recall`)."""
    return _divide(_hits(ranked, judgements, k).sum(axis=1), judgements.relevant_counts())


def precision(ranked: IntArray, judgements: Judgements, k: int) -> FloatArray:
    """Relevant documents among the first k, divided by k even if fewer were retrieved, float64 [Q]; trec_eval `P`."""
    found: FloatArray = _hits(ranked, judgements, k).sum(axis=1) / k
    return found


def reciprocal_rank(ranked: IntArray, judgements: Judgements, k: int) -> FloatArray:
    """1 / rank of the first relevant document, 0 if it is not among the first k, float64 [Q]; its mean is MRR@k."""
    hits = _hits(ranked, judgements, k)
    best: FloatArray = (hits / np.arange(1, hits.shape[1] + 1)).max(axis=1, initial=0.0)
    return best


def average_precision(ranked: IntArray, judgements: Judgements, k: int) -> FloatArray:
    """AP@k of each query, float64 [Q]; its mean is MAP@k (trec_eval `map_cut`).

    AP@k = sum_{r=1..k} rel_r * precision@r / R,   R = number of relevant documents (not min(R, k)).
    """
    hits = _hits(ranked, judgements, k)
    precision_at = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return _divide((hits * precision_at).sum(axis=1), judgements.relevant_counts())


METRICS = MappingProxyType(
    {"ndcg": ndcg, "recall": recall, "mrr": reciprocal_rank, "map": average_precision, "precision": precision}
)
"""Name in a table -> function."""


def per_query(
    ranked: IntArray, judgements: Judgements, ks: Mapping[str, Sequence[int]] = DEFAULT_KS
) -> dict[str, FloatArray]:
    """Every metric at its cut-offs, query by query: {"ndcg@10": float64 [Q], ...}.

    A key carries the k that was asked for, also when fewer documents were retrieved.

    Args:
        ranked: int64 [Q, K], best first.
        judgements: Of the same Q queries.
        ks: Metric name (a key of `METRICS`) -> cut-offs.

    Raises:
        ValueError: For an unknown metric, k < 1, or a number of queries that differs.
    """
    unknown = sorted(set(ks) - set(METRICS))
    if unknown:
        raise ValueError(f"unknown metrics {unknown}; known: {sorted(METRICS)}.")
    return {f"{name}@{k}": METRICS[name](ranked, judgements, k) for name, cuts in ks.items() for k in cuts}


def evaluate(
    ranked: IntArray, judgements: Judgements, ks: Mapping[str, Sequence[int]] = DEFAULT_KS
) -> dict[str, float]:
    """Means over all queries of `per_query`: {"ndcg@10": .., "recall@10": .., "mrr@10": .., "map@100": .., ...}.

    Raises:
        ValueError: As `per_query`, and if there is no query.
    """
    if len(judgements) == 0:
        raise ValueError("cannot average over 0 queries.")
    return {name: float(values.mean()) for name, values in per_query(ranked, judgements, ks).items()}


def lexicographic_ranks(document_ids: Sequence[str]) -> IntArray:
    """Rank of each document's id among all ids sorted as strings, int64 [N]; the `id_rank` of `order_run`."""
    order = sorted(range(len(document_ids)), key=document_ids.__getitem__)
    ranks = np.empty(len(document_ids), dtype=np.int64)
    ranks[order] = np.arange(len(document_ids))
    return ranks


def order_run(scores: NDArray[np.floating], rows: IntArray, id_rank: IntArray) -> IntArray:
    """The order in which trec_eval reads a run: score descending, equal scores by document id descending.

    trec_eval keeps scores as float32, so scores that differ only beyond float32 are equal.

    Args:
        scores: [Q, K], higher is better; no NaN.
        rows: int64 [Q, K] document rows, negative where there is none (sorted last).
        id_rank: int64 [N], see `lexicographic_ranks`.

    Returns:
        `rows` re-ordered, int64 [Q, K].
    """
    if scores.shape != rows.shape:
        raise ValueError(f"scores {list(scores.shape)} and rows {list(rows.shape)} must have the same shape.")
    missing = rows < 0
    if np.isnan(scores[~missing]).any():
        raise ValueError("scores contain NaN.")
    with np.errstate(over="ignore"):
        single = scores.astype(np.float32)
    single[missing] = -np.inf
    by_id = np.full(rows.shape, -1, dtype=np.int64)
    by_id[~missing] = id_rank[rows[~missing]]
    order = np.lexsort((-by_id, -single, missing), axis=1)
    return np.take_along_axis(rows, order, axis=1).astype(np.int64)


def _hits(ranked: IntArray, judgements: Judgements, k: int) -> FloatArray:
    return (judgements.gains(ranked, k) > 0).astype(np.float64)


def _ideal_dcg(judgements: Judgements, k: int) -> FloatArray:
    """DCG@k of all judged documents, best grades first, float64 [Q]."""
    query = np.repeat(np.arange(len(judgements)), np.diff(judgements.indptr))
    # Sorting by (query, grade descending) leaves each query's entries where they are: between its two offsets.
    gains = np.maximum(judgements.grades[np.lexsort((-judgements.grades, query))], 0)
    rank = np.arange(len(gains)) - judgements.indptr[:-1][query]
    counted = rank < k
    discounted = gains[counted] / np.log2(rank[counted] + 2.0)
    return np.bincount(query[counted], weights=discounted, minlength=len(judgements)).astype(np.float64)


def _divide(value: FloatArray, by: FloatArray | IntArray) -> FloatArray:
    return np.divide(value, by, out=np.zeros(len(value), dtype=np.float64), where=by > 0)
