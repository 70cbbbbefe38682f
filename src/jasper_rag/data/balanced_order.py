"""An order of samples in which every batch has equally many of every cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jasper_rag.data.counter_random import permutation

IntArray = NDArray[np.int64]


def balanced_order(
    clusters: IntArray, seed: int, epoch: int, length: int, rank: int = 0, world_size: int = 1
) -> IntArray:
    """Places of samples in the order of one epoch for one rank, int64 [length].

    The clusters come in turn, in an order drawn for the epoch, each with its next sample, also in an order drawn for
    the epoch. In any run of B places the clusters' counts therefore differ by one at most, whatever B is. A small
    cluster starts over when it is through; of a large one the epoch has a part, and every epoch another one. Ranks
    have different samples, of every cluster equally many (give or take one).

    Args:
        clusters: Cluster of every sample, int64 [n].
        seed: Of the order.
        epoch: From 0.
        length: Places wanted.
        rank: Of this process.
        world_size: Number of processes.
    """
    shuffled = permutation(seed, epoch, len(clusters))
    by_cluster = shuffled[np.argsort(clusters[shuffled], kind="stable")]
    # The remainder goes to other ranks in every epoch.
    mine = by_cluster[(rank + epoch) % world_size :: world_size]
    if len(mine) == 0:
        return mine[:0]
    _, starts, sizes = np.unique(clusters[mine], return_index=True, return_counts=True)
    turns, places = np.divmod(np.arange(length), len(starts))
    drawn = permutation(seed, epoch, len(starts))[places]
    order: IntArray = mine[starts[drawn] + turns % sizes[drawn]]
    return order
