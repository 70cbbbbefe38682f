"""Dense and lexical scores made one: weighted sum of z-scores, and reciprocal rank fusion.

Shapes: Q queries, N documents, K ranks. Full score rows [Q, N] are only ever held for one block of queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.metrics.ranking import IntArray, Judgements, ndcg
from jasper_rag.metrics.topk import NO_DOCUMENT, FloatMatrix, RowMatrix, row_top_k
from jasper_rag.retrieval.lexical import LexicalIndex

ScoreBlock = tuple[FloatMatrix, FloatMatrix, IntArray]
"""Dense scores [B, N], lexical scores [B, N], and the row of each of these B queries."""

WEIGHT_GRID: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(21))
"""Weights tried by `choose_weight`: 0 (dense alone) to 1 (lexical alone)."""

DEFAULT_WEIGHT = 0.25
"""Weight where no judged question can choose one: the best mean nDCG@10 over the dev splits of docs/benchmarks.md."""

_EQUAL = 1e-9


def z_normalise(scores: FloatMatrix) -> FloatMatrix:
    """Standardise every query's scores over the corpus: (s - mean_d s) / std_d s, float32 [Q, N].

    Makes scores of different kinds comparable. A query whose scores are all equal gets zeros.
    """
    centred = scores - scores.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    spread = np.sqrt(np.square(centred).mean(axis=1, keepdims=True, dtype=np.float64))
    # Equal scores are told by comparison: their mean may be off by rounding, and that must not be blown up.
    varied = (scores != scores[:, :1]).any(axis=1, keepdims=True) & (spread > 0)
    normalised: FloatMatrix = np.where(varied, centred / np.where(varied, spread, 1.0), 0.0).astype(np.float32)
    return normalised


def weighted(dense: FloatMatrix, lexical: FloatMatrix, weight: float) -> FloatMatrix:
    """(1 - w) z(dense) + w z(lexical), float32 [Q, N].

    Args:
        dense: [Q, N] inner products.
        lexical: [Q, N] BM25 scores.
        weight: w in [0, 1]; 0 is dense alone, 1 lexical alone.

    Raises:
        ValueError: If the shapes differ or w is out of range.
    """
    _check_weight(weight)
    if dense.shape != lexical.shape:
        raise ValueError(f"dense {list(dense.shape)} and lexical {list(lexical.shape)} scores must have one shape.")
    return _mix(z_normalise(dense), z_normalise(lexical), weight)


def reciprocal_rank_fusion(runs: Sequence[IntArray], k: int, k_constant: float = 60.0) -> tuple[FloatMatrix, RowMatrix]:
    """Fuse rankings by rank alone: score(d) = sum over runs of 1 / (k_constant + rank of d), ranks from 1.

    Cormack, Clarke and Buettcher 2009.

    Args:
        runs: One or more int64 [Q, K_i] of document rows, best first; negative rows are skipped, and so is a
            document that the same run already listed for the query.
        k: Documents to return.
        k_constant: Damps the first ranks; >= 0.

    Returns:
        Scores float32 [Q, k'], descending, and rows int64 [Q, k'], k' = min(k, sum of K_i); ties by the smaller row;
        row -1 and score -inf where a query has fewer documents.

    Raises:
        ValueError: For no run, runs over different numbers of queries, k < 1 or a negative constant.
    """
    if len({len(run) for run in runs}) != 1:
        raise ValueError(f"need runs over the same queries, got {[len(run) for run in runs]} rows.")
    if k < 1 or k_constant < 0:
        raise ValueError(f"need k >= 1 and k_constant >= 0, got {k} and {k_constant}.")
    queries = len(runs[0])
    stride = 1 + max(int(run.max(initial=0)) for run in runs)
    pairs, points = [], []
    for run in runs:
        query, place = np.nonzero(run >= 0)
        listed, first = np.unique(query * stride + run[query, place], return_index=True)
        pairs.append(listed)
        points.append(1.0 / (k_constant + 1.0 + place[first]))
    fused, entry = np.unique(np.concatenate(pairs), return_inverse=True)
    total = np.bincount(entry, weights=np.concatenate(points), minlength=len(fused))
    query, document = np.divmod(fused, stride)
    # Equal ranks summed in another order of the runs are ties; float32 drops the bits in which they differ.
    single = total.astype(np.float32)
    order = np.lexsort((document, -single, query))
    query, document, single = query[order], document[order], single[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    kept = place < k
    width = min(k, sum(run.shape[1] for run in runs))
    scores = np.full((queries, width), -np.inf, dtype=np.float32)
    rows = np.full((queries, width), NO_DOCUMENT, dtype=np.int64)
    scores[query[kept], place[kept]], rows[query[kept], place[kept]] = single[kept], document[kept]
    return scores, rows


def score_blocks(
    query_vectors: NDArray[Any],
    documents: DocumentVectors,
    lexical_index: LexicalIndex,
    query_texts: Sequence[str],
    query_block: int = 64,
) -> Iterator[ScoreBlock]:
    """Dense and lexical score rows of all queries, `query_block` queries at a time.

    Args:
        query_vectors: [Q, D].
        documents: Of N documents.
        lexical_index: Over the same N documents.
        query_texts: The Q texts.
        query_block: Queries per block; memory is O(query_block * N).

    Raises:
        ValueError: If the numbers of queries or of documents differ.
    """
    if len(query_vectors) != len(query_texts) or len(documents) != len(lexical_index):
        raise ValueError(
            f"{len(query_vectors)} query vectors for {len(query_texts)} texts, "
            f"{len(documents)} document vectors for {len(lexical_index)} indexed texts: the numbers must agree."
        )
    for start in range(0, len(query_texts), query_block):
        rows = np.arange(start, min(start + query_block, len(query_texts)))
        texts = query_texts[start : start + query_block]
        yield documents.inner_products(query_vectors[rows]), lexical_index.scores(texts), rows


def fused_top_k(
    query_vectors: NDArray[Any],
    documents: DocumentVectors,
    lexical_index: LexicalIndex,
    query_texts: Sequence[str],
    weight: float,
    k: int,
    query_block: int = 64,
) -> tuple[FloatMatrix, RowMatrix]:
    """The k best documents by `weighted`: scores float32 [Q, min(k, N)], descending, and rows int64.

    Arguments and errors as `score_blocks`, `weighted` and `row_top_k`.
    """
    _check_weight(weight)
    blocks = score_blocks(query_vectors, documents, lexical_index, query_texts, query_block)
    return best_of_blocks((weighted(dense, lexical, weight) for dense, lexical, _ in blocks), len(documents), k)


def best_of_blocks(blocks: Iterable[FloatMatrix], documents: int, k: int) -> tuple[FloatMatrix, RowMatrix]:
    """The k best of N documents by full score rows that come block by block: scores and rows as `fused_top_k`."""
    found = [row_top_k(scores, k) for scores in blocks]
    if not found:
        return row_top_k(np.zeros((0, documents), dtype=np.float32), k)
    return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])


@dataclass(frozen=True, slots=True)
class WeightChoice:
    """What `choose_weight` found.

    Args:
        weight: The weight to use.
        ndcg: Mean nDCG@k at that weight.
        curve: Every weight tried -> its mean nDCG@k.
    """

    weight: float
    ndcg: float
    curve: dict[float, float]


def choose_weight(
    blocks: Iterable[ScoreBlock], judgements: Judgements, grid: Sequence[float] = WEIGHT_GRID, k: int = 10
) -> WeightChoice:
    """The fusion weight with the best mean nDCG@k on development queries.

    Several weights are often equally good; then the middle of the longest run of neighbouring best weights is taken
    (the first of equally long runs, the lower of two middles): away from the edges where the value drops.

    Args:
        blocks: Score rows of the queries, e.g. from `score_blocks`; consumed one by one, so memory is O(block).
        judgements: Of all development queries; block rows point into it. A query that no block holds counts 0.
        grid: Weights to try, ascending, in [0, 1].
        k: Cut-off of nDCG.

    Raises:
        ValueError: For no query, an empty or descending grid, or a weight out of range.
    """
    if len(judgements) == 0 or len(grid) == 0 or list(grid) != sorted(grid):
        raise ValueError(f"need at least one query and an ascending grid, got {len(judgements)} and {list(grid)}.")
    for weight in grid:
        _check_weight(weight)
    totals = np.zeros(len(grid), dtype=np.float64)
    for dense, lexical, rows in blocks:
        dense_z, lexical_z, judged = z_normalise(dense), z_normalise(lexical), judgements.select(rows)
        for place, weight in enumerate(grid):
            totals[place] += ndcg(row_top_k(_mix(dense_z, lexical_z, weight), k)[1], judged, k).sum()
    means = totals / len(judgements)
    place = _middle_of_plateau(means)
    return WeightChoice(
        float(grid[place]), float(means[place]), dict(zip(map(float, grid), means.tolist(), strict=True))
    )


def _middle_of_plateau(values: NDArray[np.float64]) -> int:
    best = np.concatenate([[False], values >= values.max() - _EQUAL, [False]]).astype(np.int8)
    starts, ends = np.flatnonzero(np.diff(best) == 1), np.flatnonzero(np.diff(best) == -1)
    longest = int(np.argmax(ends - starts))
    return int((starts[longest] + ends[longest] - 1) // 2)


def _mix(dense_z: FloatMatrix, lexical_z: FloatMatrix, weight: float) -> FloatMatrix:
    return dense_z * np.float32(1.0 - weight) + lexical_z * np.float32(weight)


def _check_weight(weight: float) -> None:
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight must be in [0, 1], got {weight}.")
