"""Where negatives may come from: sources by cluster, and random draws from a cluster, beside it, or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError

IntArray = NDArray[np.int64]

_SURPLUS = 4
"""Draws per negative wanted: some are positives, too similar, or drawn before."""


class SourcePool:
    """The allowed sources, cluster after cluster.

    Args:
        source_cluster: int64 [N].
        centroids: float32 [K, D], unit rows.
        allowed: bool [N].
    """

    def __init__(self, source_cluster: IntArray, centroids: Vectors, allowed: NDArray[np.bool_]) -> None:
        chosen = np.flatnonzero(allowed)
        self.members: IntArray = chosen[np.argsort(source_cluster[chosen], kind="stable")]
        """int64 [n], allowed source rows by cluster."""
        self.sizes: IntArray = np.bincount(source_cluster[chosen], minlength=len(centroids)).astype(np.int64)
        """int64 [K]."""
        self.starts: IntArray = np.cumsum(self.sizes) - self.sizes
        """int64 [K], place of each cluster's first member."""
        self.centroids = centroids

    def nearest_clusters(self, count: int) -> IntArray:
        """For every cluster the `count` others with the nearest centroids that have members; int64 [K, <= count]."""
        similarity = self.centroids @ self.centroids.T
        np.fill_diagonal(similarity, -np.inf)
        similarity[:, self.sizes == 0] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, max(len(self.sizes) - 1, 0))]
        # A cluster without enough others keeps itself out.
        found: IntArray = np.where(np.isfinite(np.take_along_axis(similarity, order, axis=1)), order, -1)
        return found


@dataclass(slots=True)
class Draws:
    """Random candidates for a block of B pairs, with surplus; int64 [B, m], -1 where there is nothing to draw.

    Args:
        pool: The sources.
        adjacent_k: Clusters that count as adjacent.
        generator: Of the numbers.
    """

    pool: SourcePool
    adjacent_k: int
    generator: np.random.Generator

    def in_cluster(self, own: IntArray, count: int) -> IntArray:
        """From each pair's own cluster."""
        return self._from_ranges(self.pool.starts[own][:, None], self.pool.sizes[own][:, None], count)

    def adjacent(self, own: IntArray, count: int) -> IntArray:
        """Uniformly from the clusters beside it."""
        beside = self.pool.nearest_clusters(self.adjacent_k)[own]
        sizes = np.where(beside < 0, 0, self.pool.sizes[beside])
        return self._from_ranges(self.pool.starts[beside], sizes, count)

    def elsewhere(self, own: IntArray, count: int) -> IntArray:
        """Uniformly from all other clusters."""
        starts, sizes = self.pool.starts[own], self.pool.sizes[own]
        ends = starts + sizes
        total = len(self.pool.members)
        return self._from_ranges(
            np.stack([np.zeros_like(starts), ends], axis=1), np.stack([starts, total - ends], axis=1), count
        )

    def anywhere(self, own: IntArray, count: int) -> IntArray:
        """Uniformly from all."""
        size = np.full((len(own), 1), len(self.pool.members), dtype=np.int64)
        return self._from_ranges(np.zeros_like(size), size, count)

    def _from_ranges(self, starts: IntArray, sizes: IntArray, count: int) -> IntArray:
        """Uniform places from the union of each row's ranges, [B, R] each."""
        if count == 0 or starts.shape[1] == 0:
            return np.empty((len(starts), 0), dtype=np.int64)
        width = max(_SURPLUS * count, 8)
        totals = sizes.sum(axis=1, keepdims=True)
        place = (self.generator.random((len(starts), width)) * totals).astype(np.int64)
        before = np.cumsum(sizes, axis=1) - sizes
        which = (place[:, :, None] >= before[:, None, :]).sum(axis=2) - 1
        # Empty ranges share their beginning with the next one; the last that begins here is the one that has room.
        member = np.take_along_axis(starts, which, axis=1) + place - np.take_along_axis(before, which, axis=1)
        drawn: IntArray = np.where(totals > 0, self.pool.members[np.minimum(member, len(self.pool.members) - 1)], -1)
        return drawn


def require_candidates(
    pairs: IntArray,
    positives: IntArray,
    text_group: IntArray,
    allowed: NDArray[np.bool_],
    wanted: int,
    names: Sequence[str] | None = None,
) -> None:
    """Refuse a question with fewer than `wanted` sources that could be its negatives; needs no vector.

    Args:
        pairs: int64 [P, 2], the pairs to mine for.
        positives: Sorted keys of every known positive, see `positive_keys`.
        text_group: int64 [N], row of the first source of equal text.
        allowed: bool [N], sources that may be negatives.
        wanted: Negatives per pair.
        names: What to call the questions; None: by their rows.

    Raises:
        InputError: There is one; of the worst, it says how many there are.
    """
    if not len(pairs):
        return
    usable = allowed & (text_group == np.arange(len(text_group)))
    question, group = np.divmod(positives, len(text_group))
    asked = np.unique(pairs[:, 0])
    taken = np.bincount(question[usable[group]], minlength=int(asked[-1]) + 1)[asked]
    left = int(usable.sum()) - taken
    if left.min() < wanted:
        worst, most = int(asked[left.argmin()]), int(left.min())
        name = f"{worst}" if names is None else repr(names[worst])
        raise InputError(
            f"question {name} has {most} sources that could be its negatives; {wanted} are asked for.",
            field="n_neg",
            remedy=f"Give n_neg of at most {most}, or more documents." if most else "Give more documents.",
        )
