"""From documents, questions and judgements to a steering dataset: embed, cluster, keywords, negatives, splits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_plan import BuildPlan
from jasper_rag.build.negative_mining import Negatives
from jasper_rag.build.pair_keywords import DatasetKeywords, dataset_keywords, keyword_vectors
from jasper_rag.build.pair_set import PairSet
from jasper_rag.build.pair_table import PairTable
from jasper_rag.build.source_clusters import SourceClusters, cluster_sources
from jasper_rag.build.split_leaks import split_leaks
from jasper_rag.build.split_negatives import mine_splits
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder, identity_of
from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Vectors

_LOG = logging.getLogger(__name__)

IntArray = NDArray[np.int64]

_BLOCK = 8192
"""Pairs whose centroids are looked up at a time."""


@dataclass(frozen=True, slots=True)
class BuiltDataset:
    """Everything a dataset directory holds.

    Args:
        table: Sources, questions, pairs, splits.
        config: The settings it was built with.
        identity: Of the encoder.
        question_vectors: float32 [Q, D].
        source_vectors: float32 [N, D].
        keyword_vectors: float32 [V, D].
        clusters: Of the sources.
        keywords: Vocabulary and links.
        negatives: Of all pairs.
        leaks: See `split_leaks`.
    """

    table: PairTable
    config: BuildConfig
    identity: EncoderIdentity
    question_vectors: Vectors
    source_vectors: Vectors
    keyword_vectors: Vectors
    clusters: SourceClusters
    keywords: DatasetKeywords
    negatives: Negatives
    leaks: Mapping[str, Any]

    @property
    def pair_clusters(self) -> IntArray:
        """int64 [P], the cluster of each pair's source."""
        of_pair: IntArray = self.clusters.clusters.assignment[self.table.pairs[:, 1]]
        return of_pair

    def centroid_distances(self) -> Vectors:
        """float32 [P], 1 - cos(question, centroid of the pair's cluster)."""
        distances = np.empty(len(self.table.pairs), dtype=np.float32)
        for start in range(0, len(distances), _BLOCK):
            block = slice(start, start + _BLOCK)
            centroids = self.clusters.clusters.centroids[self.pair_clusters[block]]
            questions = self.question_vectors[self.table.pairs[block, 0]]
            distances[block] = 1.0 - np.einsum("pd,pd->p", questions, centroids)
        return np.clip(distances, 0.0, 2.0)


def build_dataset(plan: BuildPlan, encoder: Encoder, store: EmbeddingStore) -> BuiltDataset:
    """Build a dataset in memory; `dataset_files.write_dataset` writes it.

    Args:
        plan: From `plan_build`.
        encoder: Of all texts.
        store: Where embeddings are cached.

    Raises:
        InputError: A cluster file made with another encoder, or from the encoder or the store.
    """
    table, config = plan.table, plan.config
    identity = identity_of(encoder)
    plan.require_dimension(identity.dimension)
    sources = store.embed(table.source_texts, encoder, "document", "sources")
    questions = store.embed(table.question_texts, encoder, "query", "questions")
    clusters = cluster_sources(plan, sources)
    _LOG.info("%d clusters (%s)", len(clusters.names), clusters.source)
    keywords = dataset_keywords(plan)
    given = {} if plan.keyword_clusters is None else plan.keyword_clusters.keyword_vectors
    vectors = keyword_vectors(keywords.vocabulary, given, encoder, store, identity.dimension)
    found = clusters.clusters
    pairs = PairSet(questions, sources, table.pairs, found.assignment, found.centroids, table.pairs, table.text_group)
    negatives = mine_splits(pairs, table.splits, config.negatives, config.random_seed)
    leaks = split_leaks(
        table.pairs, table.splits, table.text_group, questions, table.question_texts, config.near_duplicate
    )
    return BuiltDataset(
        table=table,
        config=config,
        identity=identity,
        question_vectors=questions,
        source_vectors=sources,
        keyword_vectors=vectors,
        clusters=clusters,
        keywords=keywords,
        negatives=negatives,
        leaks=leaks,
    )
