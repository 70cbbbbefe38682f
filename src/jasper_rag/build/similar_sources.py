"""The sources most similar to a question outside the cluster of its answer, by search of the nearest clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.build.negative_candidates import SourcePool
from jasper_rag.build.pair_set import PairSet
from jasper_rag.embedding.vectors import Vectors

IntArray = NDArray[np.int64]

_SURPLUS = 12
"""Candidates beyond those wanted: some may be positives."""
_CANDIDATES = 1 << 22
"""Candidates in memory at a time, of all questions and clusters searched together: some 50 MB."""
_SCORES = 1 << 24
"""Cosines in memory at a time: 64 MB, however many sources a cluster has; beside them, only their mask."""
_LITTLE_WORK = 20_000_000
"""Cosines up to which all clusters are searched: about half a second."""


@dataclass(frozen=True, slots=True)
class SimilarSources:
    """Candidates of P pairs, best first; -1 and -inf pad.

    Args:
        rows: int64 [P, m], source rows.
        scores: float32 [P, m], cosine with the pair's question.
    """

    rows: IntArray
    scores: Vectors


def similar_sources(
    given: PairSet, pool: SourcePool, count: int, limits: Vectors | None = None, searched: int | None = None
) -> SimilarSources:
    """For each pair the most similar allowed sources outside the cluster of its source, best first.

    Args:
        given: Pairs, vectors, clusters.
        pool: Allowed sources.
        count: Wanted at the end; the result has more, since not all may be used.
        limits: float32 [P]; sources with a cosine above that of their pair are passed over. None: no limit.
        searched: Clusters searched, those nearest to the question. None: all of them, which is exact, where that is
            little work; else a quarter, at least 8, which finds nine in ten of the nearest.

    Returns:
        count + surplus candidates per pair; none where `count` is 0.
    """
    width, clusters, pairs = count + _SURPLUS if count else 0, len(pool.sizes), len(given.pairs)
    rows, scores = np.full((pairs, width), -1, dtype=np.int64), np.full((pairs, width), -np.inf, dtype=np.float32)
    if count == 0:
        return SimilarSources(rows, scores)
    if searched is None:
        searched = clusters if pairs * len(pool.members) <= _LITTLE_WORK else max(8, -(-clusters // 4))
    searched = min(clusters - 1, searched)
    at_once = max(_CANDIDATES // max(searched * width, 1), 64)
    limits = np.full(pairs, np.inf, dtype=np.float32) if limits is None else limits
    vectors = torch.from_numpy(np.ascontiguousarray(given.sources[pool.members]))
    for start in range(0, pairs, at_once):
        block = slice(start, start + at_once)
        question, source = given.pairs[block].T
        asked = _Asked(np.ascontiguousarray(given.questions[question]), given.source_cluster[source], limits[block])
        rows[block], scores[block] = _search(asked, vectors, pool, searched, width)
    return SimilarSources(rows, scores)


class _Asked(NamedTuple):
    """A block of B pairs: question vectors [B, D], own clusters [B], limits [B]."""

    questions: Vectors
    own: IntArray
    limits: Vectors


def _search(
    asked: _Asked, vectors: torch.Tensor, pool: SourcePool, searched: int, width: int
) -> tuple[IntArray, Vectors]:
    count = len(asked.own)
    scores = torch.full((count, searched, width), -torch.inf)
    places = torch.full((count, searched, width), -1, dtype=torch.int64)
    probed = _nearest_clusters(asked.questions, asked.own, pool, searched)
    asking, probe = np.nonzero(probed >= 0)
    clusters = probed[asking, probe]
    order = np.argsort(clusters, kind="stable")
    questions, limits = torch.from_numpy(asked.questions), torch.from_numpy(asked.limits)[:, None]
    for group in np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1) if len(order) else []:
        first, size = (int(values[clusters[group[0]]]) for values in (pool.starts, pool.sizes))
        kept, at_once = min(width, size), max(_SCORES // size, 1)
        for part in np.split(group, range(at_once, len(group), at_once)):
            rows, column = torch.from_numpy(asking[part]), torch.from_numpy(probe[part])
            best = _best(questions[rows], vectors[first : first + size], limits[rows], kept)
            scores[rows, column, :kept], places[rows, column, :kept] = best.values, best.indices + first
    best = torch.topk(scores.flatten(1), min(width, searched * width), dim=1)
    chosen = places.flatten(1).gather(1, best.indices).numpy()
    found, similarity = np.full((count, width), -1, dtype=np.int64), np.full((count, width), -np.inf, dtype=np.float32)
    similarity[:, : chosen.shape[1]] = best.values.numpy()
    found[:, : chosen.shape[1]] = pool.members[np.maximum(chosen, 0)]
    found[np.isneginf(similarity)] = -1
    return found, similarity


def _best(questions: torch.Tensor, vectors: torch.Tensor, limits: torch.Tensor, kept: int) -> torch.return_types.topk:
    """Cosines, at most the limits, and places of the `kept` nearest vectors of each question, unordered."""
    cosines = _cosines(questions, vectors)
    cosines.masked_fill_(cosines > limits, -torch.inf)
    # torch's selection: twenty times faster than one with a rule for ties, of which cosines have next to none.
    return torch.topk(cosines, kept, dim=1, sorted=False)


def _cosines(questions: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return questions @ vectors.T


def _nearest_clusters(questions: Vectors, own: IntArray, pool: SourcePool, searched: int) -> IntArray:
    """The clusters to search for each question, int64 [B, searched]; -1 pads."""
    if searched == 0:
        return np.empty((len(questions), 0), dtype=np.int64)
    nearness = questions @ pool.centroids.T
    nearness[np.arange(len(own)), own] = -np.inf
    nearness[:, pool.sizes == 0] = -np.inf
    nearest = np.argpartition(-nearness, searched - 1, axis=1)[:, :searched]
    clusters: IntArray = np.where(np.isfinite(np.take_along_axis(nearness, nearest, axis=1)), nearest, -1)
    return clusters
