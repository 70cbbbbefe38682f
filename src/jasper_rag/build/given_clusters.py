"""Clusters that are known beforehand: a topic per source, or keywords with their clusters."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.cluster_file import keyword_key
from jasper_rag.build.clustering import (
    Assignment,
    Clusters,
    mean_directions,
    nearest_centroid,
    require_unit_rows,
    summed_distance,
)
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError

logger = logging.getLogger(__name__)

Fallback = Literal["nearest", "largest"]
"""Where a source goes that no keyword places: to the nearest centroid, or to the cluster with most sources so far."""

_FEWEST_PER_TOPIC = 4
"""Sources per topic, on average, below which topics do not group anything."""


@dataclass(frozen=True, slots=True)
class NamedClusters:
    """Clusters and what they are called.

    Args:
        clusters: Of the sources.
        names: K names.
    """

    clusters: Clusters
    names: tuple[str, ...]


def clusters_by_topic(vectors: Vectors, topics: Sequence[str], field: str = "topic") -> NamedClusters:
    """One cluster per topic, the largest first; centroids are the mean directions of the topics' sources.

    A source without a topic joins the topic whose centroid is nearest, which it then does not move.

    Args:
        vectors: float32 [N, D], unit rows.
        topics: N topics, such as `Document.topic` or titles; blank for none. White space around them does not count.
        field: What they are, for messages.

    Raises:
        InputError: No source has a topic, or there are more topics than a quarter of the sources that have one.
        ValueError: Another number of topics than of rows, or rows that are not of unit length.
    """
    require_unit_rows(vectors)
    if len(topics) != len(vectors):
        raise ValueError(f"{len(vectors)} rows but {len(topics)} topics.")
    labels = [topic.strip() for topic in topics]
    sizes = topic_sizes(topics, field)
    if len(sizes) == 1:
        logger.warning("All sources have the %s %r: with one cluster there is nothing to steer.", field, *sizes)
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    number = {name: cluster for cluster, name in enumerate(names)}
    assignment = np.array([number.get(label, -1) for label in labels], dtype=np.int64)
    known = assignment >= 0
    centroids = mean_directions(vectors[known], assignment[known], len(names))
    if not known.all():
        logger.warning("%d of %d sources have no %s: each joins the nearest one.", (~known).sum(), len(labels), field)
        assignment[~known] = nearest_centroid(vectors[~known], centroids)[0]
    return NamedClusters(Clusters(assignment, centroids, summed_distance(vectors, assignment, centroids)), tuple(names))


def topic_sizes(topics: Sequence[str], field: str = "topic") -> Counter[str]:
    """Topic -> how many sources have it; needs no vector.

    Args:
        topics: N topics, blank for none.
        field: What they are, for messages.

    Raises:
        InputError: No source has a topic, or there are more topics than a quarter of the sources that have one.
    """
    sizes = Counter(label for topic in topics if (label := topic.strip()))
    remedy = f"Give every source a {field} that it shares with others, or let clusters be found (k-means)."
    if not sizes:
        raise InputError(f"none of the {len(topics)} sources has a {field}.", remedy=remedy, field=field)
    if len(sizes) > 1 and sizes.total() < _FEWEST_PER_TOPIC * len(sizes):
        problem = f"{len(sizes)} different values for {sizes.total()} sources: they do not group the sources."
        raise InputError(problem, remedy=remedy, field=field)
    return sizes


def place_sources(
    vectors: Vectors,
    centroids: Vectors,
    source_keywords: Sequence[Iterable[Sequence[str]]],
    cluster_of_keyword: Mapping[str, int],
    fallback: Fallback = "nearest",
) -> Clusters:
    """Place every source in a given cluster by the keywords of its pairs.

    Each pair votes for the cluster to which most of its keywords belong (equally many: that of the first such
    keyword); a source belongs where most of its pairs do (equally many: the smaller number). The centroids stay as
    given, and clusters may stay empty.

    Args:
        vectors: float32 [N, D], unit rows: the sources.
        centroids: float32 [K, D], unit rows.
        source_keywords: For each source the keyword lists of its pairs.
        cluster_of_keyword: Lower-case keyword -> cluster.
        fallback: Where sources go without any such keyword.

    Raises:
        InputError: An unknown fallback, or centroids of another dimension than the sources.
        ValueError: Another number of keyword lists than of rows, or rows that are not of unit length.
    """
    require_unit_rows(vectors)
    _require_match(vectors, centroids, source_keywords, fallback)
    assignment = np.array([_voted(lists, cluster_of_keyword) for lists in source_keywords], dtype=np.int64)
    placed = assignment >= 0
    if not placed.all():
        logger.warning("%d of %d sources have no known keyword: %s cluster.", (~placed).sum(), len(vectors), fallback)
        assignment[~placed] = _fallen_back(vectors[~placed], centroids, assignment[placed], fallback)
    return Clusters(assignment, centroids, summed_distance(vectors, assignment, centroids))


def _require_match(vectors: Vectors, centroids: Vectors, keywords: Sequence[object], fallback: str) -> None:
    if fallback not in get_args(Fallback):
        remedy = f"Choose {' or '.join(get_args(Fallback))}."
        raise InputError(f"unknown fallback {fallback!r}.", remedy=remedy, field="link_fallback_strategy")
    if centroids.shape[1] != vectors.shape[1]:
        raise InputError(
            f"centroids have {centroids.shape[1]} dimensions, the sources {vectors.shape[1]}.",
            remedy="Use the encoder that the clusters were made with.",
            field="centroids",
        )
    if len(keywords) != len(vectors):
        raise ValueError(f"{len(vectors)} rows but {len(keywords)} keyword lists.")


def _voted(pairs: Iterable[Sequence[str]], cluster_of_keyword: Mapping[str, int]) -> int:
    """Cluster of a source; -1 where no keyword is known."""
    votes: defaultdict[int, int] = defaultdict(int)
    for keywords in pairs:
        lowered = map(keyword_key, keywords)
        found = Counter(cluster_of_keyword[keyword] for keyword in lowered if keyword in cluster_of_keyword)
        if found:
            # most_common keeps the order of first appearance among equals.
            votes[found.most_common(1)[0][0]] += 1
    return min(votes, key=lambda cluster: (-votes[cluster], cluster), default=-1)


def _fallen_back(rows: Vectors, centroids: Vectors, placed: Assignment, fallback: Fallback) -> NDArray[np.int64]:
    if fallback == "nearest":
        return nearest_centroid(rows, centroids)[0]
    largest = int(np.bincount(placed, minlength=len(centroids)).argmax())
    return np.full(len(rows), largest, dtype=np.int64)
