"""Hard negatives in four tiers: from the source's cluster, from the clusters beside it, the most similar, any other.

No negative is a known positive of its question, by row or by text; none stands twice in a row; and a candidate that
scores almost like the positive is left out as a likely false negative (relative margin, NV-Retriever,
arXiv:2407.15831): kept is s(q, n) <= margin * s(q, p) where s(q, p) > 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.negative_candidates import Draws, SourcePool, require_candidates
from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.build.negative_filling import ADJACENT as ADJACENT
from jasper_rag.build.negative_filling import IN_CLUSTER as IN_CLUSTER
from jasper_rag.build.negative_filling import RANDOM as RANDOM
from jasper_rag.build.negative_filling import SIMILAR as SIMILAR
from jasper_rag.build.negative_filling import Filling, score_limits
from jasper_rag.build.pair_set import PairSet
from jasper_rag.build.similar_sources import SimilarSources, similar_sources
from jasper_rag.dataset_layout import mining_mark
from jasper_rag.embedding.vectors import Vectors

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BLOCK = 2048
"""Pairs worked on at a time; the random numbers of a block depend on the seed and its place alone."""


@dataclass(frozen=True, slots=True)
class Negatives:
    """What was mined for P pairs.

    Args:
        rows: int64 [P, n], source rows; unique within a row of the array.
        tiers: int64 [P, n], 1 in-cluster, 2 adjacent, 3 similar, 4 random.
        scores: float32 [P, n], cosine with the pair's question.
        moved: Negatives that another tier had to give because theirs was exhausted.
        inside_margin: Negatives kept above the margin because a pair had no others.
    """

    rows: IntArray
    tiers: IntArray
    scores: Vectors
    moved: int
    inside_margin: int

    def mark(self) -> str:
        """What tells this mining from any other."""
        return mining_mark(np.ascontiguousarray(array).tobytes() for array in (self.rows, self.tiers, self.scores))


def mine_negatives(given: PairSet, allowed: BoolArray, config: NegativeConfig, seed: int) -> Negatives:
    """Mine the negatives of all pairs of `given` from the sources in `allowed`.

    Memory beyond the result is that of one block of scores.

    Args:
        given: Pairs, vectors, clusters.
        allowed: bool [N]; for train pairs the sources of train alone, so that training never sees the others.
        config: Counts, adjacency, margin.
        seed: Of the random tiers.

    Raises:
        InputError: A question has fewer than n_neg sources that could be its negatives.
    """
    keys = given.positive_keys()
    require_candidates(given.pairs, keys, given.text_group, allowed, config.n_neg)
    pool = SourcePool(given.source_cluster, given.centroids, allowed & (given.text_group == np.arange(len(allowed))))
    limits = score_limits(given, config.margin)
    similar = similar_sources(given, pool, config.counts()[SIMILAR - 1], limits)
    parts = []
    for number, start in enumerate(range(0, len(given.pairs), _BLOCK)):
        block = np.arange(start, min(start + _BLOCK, len(given.pairs)))
        draws = Draws(pool, config.adjacent_k, np.random.default_rng([seed, number]))
        question, source = given.pairs[block].T
        own = given.source_cluster[source]
        filling = Filling(given, keys, question, own, limits[block], config.n_neg)
        nearest = SimilarSources(similar.rows[block], similar.scores[block])
        parts.append(_mine_block(filling, config, draws, own, nearest))
    return joined(parts, config.n_neg)


def joined(parts: Sequence[Negatives], n_neg: int) -> Negatives:
    """The negatives of one part of the pairs after those of another."""
    return Negatives(
        np.concatenate([np.empty((0, n_neg), dtype=np.int64), *(part.rows for part in parts)]),
        np.concatenate([np.empty((0, n_neg), dtype=np.int64), *(part.tiers for part in parts)]),
        np.concatenate([np.empty((0, n_neg), dtype=np.float32), *(part.scores for part in parts)]),
        sum(part.moved for part in parts),
        sum(part.inside_margin for part in parts),
    )


def _mine_block(
    filling: Filling, config: NegativeConfig, draws: Draws, own: IntArray, similar: SimilarSources
) -> Negatives:
    every, counts = np.arange(len(own)), config.counts()
    # The most similar come first: they are few and fixed, the random tiers can step aside.
    filling.add(every, similar.rows, SIMILAR, counts[2], similar.scores)
    filling.add(every, draws.in_cluster(own, counts[0]), IN_CLUSTER, counts[0])
    filling.add(every, draws.adjacent(own, counts[1]), ADJACENT, counts[1])
    filling.add(every, draws.elsewhere(own, counts[3]), RANDOM, counts[3])
    # Who is short takes what other tiers have, at random first.
    short = filling.short()
    filling.add(short, draws.elsewhere(own[short], config.n_neg), RANDOM, config.n_neg)
    short = filling.short()
    filling.add(short, draws.anywhere(own[short], config.n_neg), None, config.n_neg)
    for row in filling.short():
        filling.complete(row, draws.pool)
    rows, tiers, scores = filling.by_tier()
    got = np.stack([(tiers == tier).sum(axis=1) for tier in range(IN_CLUSTER, RANDOM + 1)], axis=1)
    moved = int(np.maximum(np.array(counts) - got, 0).sum())
    return Negatives(rows, tiers, scores, moved, filling.inside_margin)
