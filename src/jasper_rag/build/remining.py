"""Hard negatives mined anew, with the questions where a trained model moves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.build.negative_filling import IN_CLUSTER, RANDOM
from jasper_rag.build.negative_mining import Negatives
from jasper_rag.build.pair_set import PairSet
from jasper_rag.build.split_negatives import mine_splits
from jasper_rag.embedding.vectors import Vectors

IntArray = NDArray[np.int64]

_BLOCK = 1024
"""Pairs whose negatives are compared at a time."""


@dataclass(frozen=True, slots=True)
class TierChange:
    """What became of one tier.

    Args:
        tier: 1 to 4.
        before: Negatives that it had.
        after: Negatives that it has.
        changed: Of these, those that their pair did not have before, in any tier.
        cosine_before: Mean cosine of the old ones with the question where it is now; None without any.
        cosine_after: The same of the new ones.
    """

    tier: int
    before: int
    after: int
    changed: int
    cosine_before: float | None
    cosine_after: float | None


@dataclass(frozen=True, slots=True)
class Remined:
    """New negatives of all pairs, and how they differ from the old ones."""

    negatives: Negatives
    changes: tuple[TierChange, ...]


def remine(
    given: PairSet,
    splits: Mapping[str, IntArray],
    old_rows: IntArray,
    old_tiers: IntArray,
    config: NegativeConfig,
    seed: int,
) -> Remined:
    """Mine the negatives of every split again; pairs in no split keep theirs.

    Args:
        given: All P pairs, with the questions where the model moves them: the similar tier and the margin follow.
        splits: Split -> rows of pairs.
        old_rows: int64 [P, n].
        old_tiers: int64 [P, n].
        config: Counts, adjacency, margin; n as before.
        seed: Of the random tiers.

    Raises:
        InputError: A question has fewer than n sources that could be its negatives.
    """
    mined = mine_splits(given, splits, config, seed)
    rows, tiers = old_rows.copy(), old_tiers.copy()
    scores = negative_cosines(given, old_rows)
    before = scores.copy()
    covered = np.sort(np.concatenate(list(splits.values())))
    rows[covered], tiers[covered], scores[covered] = mined.rows, mined.tiers, mined.scores
    fresh = np.empty(rows.shape, dtype=np.bool_)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        fresh[block] = ~(rows[block][:, :, None] == old_rows[block][:, None, :]).any(axis=2)
    changes = tuple(
        TierChange(
            tier=tier,
            before=int((old_tiers == tier).sum()),
            after=int((tiers == tier).sum()),
            changed=int((fresh & (tiers == tier)).sum()),
            cosine_before=_mean(before[old_tiers == tier]),
            cosine_after=_mean(scores[tiers == tier]),
        )
        for tier in range(IN_CLUSTER, RANDOM + 1)
    )
    return Remined(Negatives(rows, tiers, scores, mined.moved, mined.inside_margin), changes)


def negative_cosines(given: PairSet, rows: IntArray) -> Vectors:
    """Cosine of each negative with its pair's question, float32 [P, n].

    Args:
        given: Unit vectors and pairs.
        rows: int64 [P, n], source rows.
    """
    cosines = np.empty(rows.shape, dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        questions = given.questions[given.pairs[block, 0]]
        cosines[block] = np.matmul(given.sources[rows[block]], questions[:, :, None])[:, :, 0]
    return cosines


def _mean(cosines: Vectors) -> float | None:
    return float(cosines.mean(dtype=np.float64)) if len(cosines) else None
