"""Starting points of k-means, far from each other."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors


def spread_rows(
    vectors: Vectors, weights: NDArray[np.float64], k: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw k different rows by greedy k-means++ (Arthur & Vassilvitskii 2007).

    Each next row is drawn with probability proportional to weight * d, where d = 1 - cosine with the nearest row drawn
    so far (half the squared distance of unit rows); of 2 + ln k such candidates the one that lowers the sum of
    weight * d most is kept.

    Args:
        vectors: float32 [N, D], distinct unit rows.
        weights: float64 [N], positive: how often each row counts.
        k: At most N.
        generator: Source of randomness.

    Returns:
        Row numbers, int64 [k], in the order drawn.
    """
    candidates = 2 + int(math.log(k))
    chosen = [int(generator.choice(len(vectors), p=weights / weights.sum()))]
    distance = _distances(vectors, vectors[chosen])[:, 0]
    distance[chosen] = 0.0
    while len(chosen) < k:
        tried = _draw(weights * distance, chosen, candidates, generator)
        lowered = np.minimum(distance[:, None], _distances(vectors, vectors[tried]))
        best = int((weights @ lowered).argmin())
        distance = lowered[:, best]
        chosen.append(int(tried[best]))
        distance[chosen] = 0.0
    return np.array(chosen, dtype=np.int64)


def _draw(
    mass: NDArray[np.float64], chosen: list[int], candidates: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    total = np.cumsum(mass)
    if total[-1] <= 0:
        # All rows left are, as far as float32 can tell, where a chosen one is.
        left = np.setdiff1d(np.arange(len(mass)), chosen)
        return generator.choice(left, size=1)
    drawn = np.searchsorted(total, generator.random(candidates) * total[-1], side="right")
    # A product can round up to the last sum; the first row that reaches it is the last one with any mass.
    last = np.searchsorted(total, total[-1])
    rows: NDArray[np.int64] = np.minimum(drawn, last)
    return rows


def _distances(vectors: Vectors, points: Vectors) -> NDArray[np.float64]:
    """1 - cosine of every row with every point, float64 [N, points], never negative."""
    return np.maximum(1.0 - (vectors @ points.T).astype(np.float64), 0.0)
