"""Negatives of all splits; those of train pairs come from the sources of train alone, so training sees no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.build.negative_mining import Negatives, joined, mine_negatives
from jasper_rag.build.pair_set import PairSet

IntArray = NDArray[np.int64]


def mine_splits(given: PairSet, splits: Mapping[str, IntArray], config: NegativeConfig, seed: int) -> Negatives:
    """Mine for the pairs of every split, from the sources allowed for it.

    Args:
        given: All P pairs.
        splits: Split -> rows of pairs; together they are all rows, each once.
        config: Counts, adjacency, margin.
        seed: Of the random tiers.

    Returns:
        Negatives of the P pairs, in the order of `given`.

    Raises:
        InputError: A question has fewer than n_neg sources that could be its negatives.
    """
    parts = []
    for split, rows in splits.items():
        allowed = allowed_sources(given.pairs, splits, given.text_group, split)
        parts.append(mine_negatives(replace(given, pairs=given.pairs[rows]), allowed, config, seed))
    order = np.argsort(np.concatenate(list(splits.values())), kind="stable")
    mined = joined(parts, config.n_neg)
    return replace(mined, rows=mined.rows[order], tiers=mined.tiers[order], scores=mined.scores[order])


def allowed_sources(
    pairs: IntArray, splits: Mapping[str, IntArray], text_group: IntArray, split: str
) -> NDArray[np.bool_]:
    """Which sources may be negatives of a split's pairs, bool [N]: for train those that answer a train question.

    Args:
        pairs: int64 [P, 2].
        splits: Split -> rows of pairs.
        text_group: int64 [N]; of sources of equal text only the first is ever a negative.
        split: Which one.
    """
    if split != "train":
        return np.ones(len(text_group), dtype=np.bool_)
    allowed = np.zeros(len(text_group), dtype=np.bool_)
    allowed[text_group[pairs[splits["train"], 1]]] = True
    return allowed
