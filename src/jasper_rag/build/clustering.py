"""Spherical k-means: sources grouped by direction, whatever the order they come in.

    maximise  sum_i  x_i . c_{a(i)}     over assignments a and unit vectors c_1 .. c_K,

by two steps in turn: a(i) = argmax_k x_i . c_k, and c_k = the normalised sum of the rows assigned to k (Dhillon &
Modha 2001). On unit rows |x - c|^2 = 2 - 2 x . c, so this is k-means with its centroids kept on the sphere.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from jasper_rag.build.cluster_count import cluster_count
from jasper_rag.build.cluster_seeding import spread_rows
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError

logger = logging.getLogger(__name__)

Assignment = NDArray[np.int64]
Weights = NDArray[np.float64]

_BLOCK = 4096
"""Rows compared with all centroids at a time."""

_SAMPLE_PER_CLUSTER = 100
"""Rows per cluster on which the restarts run; the best start then goes on over all rows."""

_LEAST_GAIN = 1e-4
"""Share of the inertia that a step must take away for another one to follow."""

_UNIT_TOLERANCE = 1e-3
_NO_DIRECTION = 1e-6


@dataclass(frozen=True, slots=True)
class Clusters:
    """A partition of N rows into K clusters.

    Args:
        assignment: int64 [N], each row's cluster in 0 .. K-1.
        centroids: float32 [K, D], unit rows.
        inertia: Sum over rows of 1 - cosine with their centroid; smaller is tighter.
    """

    assignment: Assignment
    centroids: Vectors
    inertia: float

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each cluster, int64 [K]."""
        return np.bincount(self.assignment, minlength=len(self.centroids))


def spherical_k_means(
    vectors: Vectors, k: int | None = None, *, seed: int = 0, restarts: int = 3, iterations: int = 50
) -> Clusters:
    """Group unit rows into k clusters, numbered by size: cluster 0 is the largest.

    The same rows in another order get the same clusters: all work is done on the distinct rows in the order of their
    digests, with their counts as weights. Same rows, seed and number of BLAS threads: the same result, bit for bit.

    Args:
        vectors: float32 [N, D], unit rows.
        k: Number of clusters, at least 1; lowered (and logged) to the number of distinct rows where that is smaller.
            None: `cluster_count` of the distinct rows.
        seed: Of the starting points.
        restarts: Starts tried, each to its end on a sample of 100 rows per cluster; the best goes on with all rows.
        iterations: Most steps of one run; it ends before where the inertia falls by less than 1e-4 of itself.

    Returns:
        The clusters, none of them empty; each centroid is the normalised mean of the rows assigned to it.

    Raises:
        InputError: No row, or k, restarts or iterations below 1.
        ValueError: Rows that are not finite or not of unit length.
    """
    for name, value in (("k", k), ("restarts", restarts), ("iterations", iterations)):
        if value is not None and value < 1:
            raise InputError(f"{name} = {value}.", remedy="Give at least 1.", field=name)
    require_unit_rows(vectors)
    first, inverse, counts = distinct_rows(vectors)
    k = cluster_count(len(first)) if k is None else k
    if len(first) < k:
        logger.warning("%d clusters asked for, but only %d sources differ: %d clusters.", k, len(first), len(first))
        k = len(first)
    rows, weights = vectors[first], counts.astype(np.float64)
    sample = np.sort(np.random.default_rng(seed).permutation(len(rows))[: k * _SAMPLE_PER_CLUSTER])
    run = _best_start(rows[sample], weights[sample], k, seed, restarts, iterations)
    if len(sample) < len(rows):
        run = _lloyd(rows, weights, run.centroids, iterations)
    order = _by_size(run, weights)
    return Clusters(np.argsort(order)[run.assignment][inverse], run.centroids[order], run.inertia)


def distinct_rows(vectors: Vectors) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows in an order that does not depend on where they stand: that of their digests.

    Returns:
        int64 arrays: row of the first of each [U]; for each row its number among these [N]; how often each occurs [U].
    """
    # Adding zero turns -0.0 into 0.0: equal numbers, equal bytes.
    digests = np.array([hashlib.blake2b(row + np.float32(0), digest_size=16).digest() for row in vectors], dtype="S16")
    _, first, inverse, counts = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    return first, inverse.reshape(-1), counts


def nearest_centroid(vectors: Vectors, centroids: Vectors) -> tuple[Assignment, NDArray[np.float32]]:
    """For each row the centroid of the largest inner product, ties to the smaller number.

    Args:
        vectors: float32 [N, D].
        centroids: float32 [K, D].

    Returns:
        Cluster of each row int64 [N], and the inner product float32 [N].
    """
    assignment = np.empty(len(vectors), dtype=np.int64)
    similarity = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = vectors[block] @ centroids.T
        assignment[block] = scores.argmax(axis=1)
        similarity[block] = scores.max(axis=1)
    return assignment, similarity


def mean_directions(vectors: Vectors, assignment: Assignment, k: int, weights: Weights | None = None) -> Vectors:
    """The normalised weighted mean of the rows of each cluster, summed in float64.

    Where the rows cancel each other out, so that the mean has no direction, the cluster's first row stands for it.

    Args:
        vectors: float32 [N, D], unit rows.
        assignment: int64 [N], every cluster 0 .. k-1 among them.
        k: Number of clusters.
        weights: float64 [N], how often each row counts; None: once.

    Returns:
        float32 [k, D], unit rows.
    """
    counted = np.ones(len(vectors)) if weights is None else weights
    sums = np.zeros((k, vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK):
        part = vectors[start : start + _BLOCK].astype(np.float64)
        block = slice(start, start + len(part))
        members = csr_array((counted[block], (assignment[block], np.arange(len(part)))), shape=(k, len(part)))
        sums += members @ part
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    total = np.bincount(assignment, counted, minlength=k)
    for cluster in np.flatnonzero(norms[:, 0] <= _NO_DIRECTION * total):
        sums[cluster] = vectors[int(np.argmax(assignment == cluster))]
        norms[cluster] = np.linalg.norm(sums[cluster])
    means: Vectors = (sums / norms).astype(np.float32)
    return means


def summed_distance(
    vectors: Vectors, assignment: Assignment, centroids: Vectors, weights: Weights | None = None
) -> float:
    """Sum over rows of weight * (1 - cosine with the row's centroid), in float64, never negative.

    Args:
        vectors: float32 [N, D], unit rows.
        assignment: int64 [N].
        centroids: float32 [K, D], unit rows.
        weights: float64 [N]; None: 1.
    """
    counted = np.ones(len(vectors)) if weights is None else weights
    total = 0.0
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosines = np.einsum("nd,nd->n", vectors[block], centroids[assignment[block]])
        total += float(counted[block] @ (1.0 - cosines.astype(np.float64)))
    return max(total, 0.0)


def require_unit_rows(vectors: Vectors) -> None:
    """Raise InputError for no row, ValueError for rows that are not finite or not of length 1."""
    if vectors.ndim != 2 or not vectors.size:
        raise InputError(f"there is nothing to cluster: vectors of shape {list(vectors.shape)}.", remedy="Add sources.")
    for start in range(0, len(vectors), _BLOCK):
        lengths = np.linalg.norm(vectors[start : start + _BLOCK].astype(np.float64), axis=1)
        off = np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT_TOLERANCE))
        if len(off):
            raise ValueError(f"row {start + int(off[0])} has length {lengths[off[0]]:.6g}, expected 1.")


@dataclass(frozen=True, slots=True)
class _Run:
    assignment: Assignment
    centroids: Vectors
    inertia: float


def _best_start(rows: Vectors, weights: Weights, k: int, seed: int, restarts: int, iterations: int) -> _Run:
    generators = (np.random.default_rng([seed, restart]) for restart in range(restarts))
    starts = (rows[spread_rows(rows, weights, k, generator)] for generator in generators)
    return min((_lloyd(rows, weights, start, iterations) for start in starts), key=lambda run: run.inertia)


def _lloyd(rows: Vectors, weights: Weights, centroids: Vectors, iterations: int) -> _Run:
    """Alternate the two steps from `centroids` on; no cluster is ever left empty."""
    k = len(centroids)
    before = np.inf
    for _ in range(iterations):
        assignment, similarity = nearest_centroid(rows, centroids)
        _fill_empty(assignment, similarity, k)
        centroids = mean_directions(rows, assignment, k, weights)
        inertia = float(weights @ (1.0 - similarity.astype(np.float64)))
        if before - inertia <= _LEAST_GAIN * inertia:
            break
        before = inertia
    return _Run(assignment, centroids, summed_distance(rows, assignment, centroids, weights))


def _fill_empty(assignment: Assignment, similarity: NDArray[np.float32], k: int) -> None:
    """Give every empty cluster the row that lies farthest from its own centroid, in place."""
    sizes = np.bincount(assignment, minlength=k)
    for empty in np.flatnonzero(sizes == 0):
        farthest = int(np.where(sizes[assignment] > 1, similarity, np.inf).argmin())
        sizes[assignment[farthest]] -= 1
        sizes[empty] = 1
        assignment[farthest] = empty
        similarity[farthest] = 1.0


def _by_size(run: _Run, weights: Weights) -> NDArray[np.int64]:
    """Cluster numbers in the order of falling size; equal sizes by the bytes of the centroid."""
    sizes = np.bincount(run.assignment, weights, minlength=len(run.centroids))
    keys = [(-size, centroid.tobytes()) for size, centroid in zip(sizes.tolist(), run.centroids, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
