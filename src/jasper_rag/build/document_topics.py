"""Topics of the documents that are searched: the ones they come with, or spherical k-means, named by their terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jasper_rag.build.clustering import Clusters, spherical_k_means
from jasper_rag.build.given_clusters import NamedClusters, clusters_by_topic
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import Topics
from jasper_rag.text.cluster_terms import describe_clusters
from jasper_rag.text.records import Document

MOST_GIVEN = 200
"""Given topics above which nobody looks through their names."""


@dataclass(frozen=True, slots=True)
class DocumentTopics:
    """Topics, or why there are none.

    Args:
        topics: None where no two documents differ.
        source: Where they come from, or the reason, in words.
    """

    topics: Topics | None
    source: str


def document_topics(
    documents: Sequence[Document],
    vectors: DocumentVectors,
    count: int | None = None,
    *,
    seed: int = 0,
    language: str = "english",
) -> DocumentTopics:
    """Group documents.

    Where most documents have a `topic`, and there are 2 to 200 different ones that group them, these are the topics;
    else k-means over the documents' directions. A document without direction joins the topic with the smallest number.

    Args:
        documents: N documents.
        vectors: Theirs.
        count: Topics of k-means; None: the given topics, else the root of N, 64 at most.
        seed: Of k-means.
        language: Of the words that name them.
    """
    directions = document_directions(vectors)
    usable = np.flatnonzero(np.linalg.norm(directions, axis=1) > 0.5)
    if not (directions[usable] != directions[usable[:1]]).any():
        return DocumentTopics(None, "fewer than two documents differ")
    labels = [documents[row].topic for row in usable.tolist()]
    given = _given(directions[usable], labels) if count is None else None
    if given is None:
        clusters, source = spherical_k_means(directions[usable], count, seed=seed), f"spherical k-means, seed {seed}"
    else:
        clusters, source = given.clusters, "the documents' topics"
    return DocumentTopics(_named(documents, directions, usable, clusters, given, language), source)


def document_directions(vectors: DocumentVectors) -> Vectors:
    """The direction of each document, float32 [N, D]: the unit mean of its passages; zeros where it has none."""
    rows = np.asarray(vectors.vectors, dtype=np.float32)
    if vectors.passages is None:
        return unit(rows)
    return unit(np.add.reduceat(rows, vectors.passages.starts, axis=0))


def _given(directions: Vectors, labels: Sequence[str]) -> NamedClusters | None:
    known = [label.strip() for label in labels if label.strip()]
    if 2 * len(known) <= len(labels) or not 2 <= len(set(known)) <= MOST_GIVEN:
        return None
    try:
        return clusters_by_topic(directions, labels)
    except InputError:  # nearly as many topics as documents group nothing
        return None


def _named(
    documents: Sequence[Document],
    directions: Vectors,
    usable: np.ndarray,
    clusters: Clusters,
    given: NamedClusters | None,
    language: str,
) -> Topics:
    assignment = np.zeros(len(documents), dtype=np.int64)
    assignment[usable] = clusters.assignment
    texts = [document.content for document in documents]
    described = describe_clusters(texts, assignment.tolist(), len(clusters.centroids), language)
    names = tuple(one.name for one in described) if given is None else given.names
    return Topics(names, tuple(one.terms for one in described), clusters.centroids, assignment)
