"""The growing negatives of some pairs: candidates come tier by tier, and those that may be negatives are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.negative_candidates import SourcePool
from jasper_rag.build.pair_set import PairSet
from jasper_rag.embedding.vectors import Vectors

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

IN_CLUSTER, ADJACENT, SIMILAR, RANDOM = 1, 2, 3, 4

_BLOCK = 8192


def score_limits(given: PairSet, margin: float | None) -> Vectors:
    """The cosine above which a candidate may be a false negative, float32 [P]: margin * s(q, p) where s(q, p) > 0.

    A positive that does not score above 0 says nothing about what is too similar; without a margin nothing does.

    Args:
        given: P pairs.
        margin: Share of the positive's score.
    """
    limits = np.full(len(given.pairs), np.inf, dtype=np.float32)
    if margin is None:
        return limits
    for start in range(0, len(limits), _BLOCK):
        block = slice(start, start + _BLOCK)
        question, source = given.pairs[block].T
        positive = np.einsum("bd,bd->b", given.questions[question], given.sources[source])
        limits[block] = np.where(positive > 0, margin * positive, np.inf)
    return limits


class Filling:
    """Up to n negatives for each of B pairs.

    Args:
        given: Vectors, clusters, texts.
        keys: Sorted keys of every known positive.
        question: int64 [B], question row of each pair.
        own: int64 [B], cluster of each pair's source.
        limit: float32 [B], see `score_limits`.
        size: n.
    """

    def __init__(
        self, given: PairSet, keys: IntArray, question: IntArray, own: IntArray, limit: Vectors, size: int
    ) -> None:
        self._given, self._keys, self._question = given, keys, question
        self._own, self._limit = own, limit
        self._asked = np.ascontiguousarray(given.questions[question])
        shape = (len(question), size)
        self._rows = np.full(shape, -1, dtype=np.int64)
        self._tiers = np.zeros(shape, dtype=np.int64)
        self._scores = np.zeros(shape, dtype=np.float32)
        self._filled = np.zeros(len(question), dtype=np.int64)
        self.inside_margin = 0
        """Negatives kept above the margin."""

    def add(
        self, pairs: IntArray, candidates: IntArray, tier: int | None, count: int, scores: Vectors | None = None
    ) -> None:
        """Take up to `count` more for each of some pairs: the first candidates that may be negatives.

        Args:
            pairs: int64 [b], numbers below B, each once.
            candidates: int64 [b, m], source rows; -1 pads.
            tier: Of all of them; None: in-cluster or random, as each one's cluster says.
            count: Most to take.
            scores: float32 [b, m], where the cosines with the question are known.
        """
        goal = np.minimum(self._filled[pairs] + count, self._rows.shape[1])
        # The first few are nearly always enough; the others are looked at only for pairs they were not enough for.
        for columns in (slice(0, count + 1), slice(count + 1, None)):
            lacking = np.flatnonzero(self._filled[pairs] < goal)
            part = candidates[lacking, columns]
            if part.size:
                known = None if scores is None else scores[lacking, columns]
                self._take(pairs[lacking], part, known, tier, goal[lacking])

    def short(self) -> IntArray:
        """Numbers of the pairs that lack negatives."""
        return np.flatnonzero(self._filled < self._rows.shape[1])

    def complete(self, pair: int, pool: SourcePool) -> None:
        """Fill one pair from every allowed source: those below the margin first, then the least similar above it."""
        every = pool.members
        free = np.setdiff1d(every[~self._is_positive(np.array([pair]), every[None])[0]], self._rows[pair])
        scores = self._given.sources[free] @ self._asked[pair]
        above = scores > self._limit[pair]
        filled = int(self._filled[pair])
        order = np.lexsort((free, np.where(above, scores, 0.0), above))[: self._rows.shape[1] - filled]
        self.inside_margin += int(above[order].sum())
        self._rows[pair, filled:], self._scores[pair, filled:] = free[order], scores[order]
        self._tiers[pair, filled:] = self._tier(free[order], self._own[pair])
        self._filled[pair] = self._rows.shape[1]

    def by_tier(self) -> tuple[IntArray, IntArray, Vectors]:
        """Rows, tiers and scores [B, n], ordered by tier within a pair."""
        order = np.argsort(self._tiers, axis=1, kind="stable")
        rows, tiers = (np.take_along_axis(values, order, axis=1) for values in (self._rows, self._tiers))
        return rows, tiers, np.take_along_axis(self._scores, order, axis=1)

    def _take(
        self, pairs: IntArray, candidates: IntArray, scores: Vectors | None, tier: int | None, goal: IntArray
    ) -> None:
        usable = (candidates >= 0) & ~self._is_positive(pairs, candidates) & self._is_new(pairs, candidates)
        if scores is None:
            vectors = self._given.sources[np.where(usable, candidates, 0)]
            scores = np.matmul(vectors, self._asked[pairs][:, :, None])[:, :, 0]
        usable &= scores <= self._limit[pairs][:, None]
        room = goal - self._filled[pairs]
        rank = np.cumsum(usable, axis=1) - 1
        row, column = np.nonzero(usable & (rank < room[:, None]))
        pair = pairs[row]
        place = self._filled[pair] + rank[row, column]
        taken = candidates[row, column]
        self._rows[pair, place], self._scores[pair, place] = taken, scores[row, column]
        self._tiers[pair, place] = self._tier(taken, self._own[pair]) if tier is None else tier
        self._filled[pairs] += np.bincount(row, minlength=len(pairs))

    def _tier(self, candidates: IntArray, own: IntArray) -> IntArray:
        tiers: IntArray = np.where(self._given.source_cluster[candidates] == own, IN_CLUSTER, RANDOM)
        return tiers

    def _is_positive(self, pairs: IntArray, candidates: IntArray) -> BoolArray:
        group = self._given.text_group[np.maximum(candidates, 0)]
        asked = self._question[pairs][:, None] * len(self._given.sources) + group
        place = np.minimum(np.searchsorted(self._keys, asked), len(self._keys) - 1)
        found: BoolArray = self._keys[place] == asked
        return found

    def _is_new(self, pairs: IntArray, candidates: IntArray) -> BoolArray:
        """Not among the pair's negatives yet, and the first of its kind among the candidates."""
        known = (candidates[:, :, None] == self._rows[pairs][:, None, :]).any(axis=2)
        earlier = np.tril(candidates[:, :, None] == candidates[:, None, :], -1).any(axis=2)
        new: BoolArray = ~(known | earlier)
        return new
