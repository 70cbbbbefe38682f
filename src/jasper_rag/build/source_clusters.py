"""The clusters of a dataset's sources, as its settings ask for them, with a name each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jasper_rag.build.build_plan import BuildPlan
from jasper_rag.build.cluster_file import ClusterFile
from jasper_rag.build.clustering import Clusters, spherical_k_means
from jasper_rag.build.given_clusters import clusters_by_topic, place_sources
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.text.cluster_terms import describe_clusters
from jasper_rag.text.keywords import KeywordVocabulary


@dataclass(frozen=True, slots=True)
class SourceClusters:
    """Clusters of all sources.

    Args:
        clusters: Assignment and centroids.
        names: K names.
        terms: K lists of telling terms, best first.
        source: Where they come from, in words.
    """

    clusters: Clusters
    names: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]
    source: str

    def records(self) -> list[dict[str, Any]]:
        """What `clusters.json` holds."""
        sizes = self.clusters.sizes.tolist()
        return [
            {"name": name, "terms": list(terms), "sources": size}
            for name, terms, size in zip(self.names, self.terms, sizes, strict=True)
        ]


def cluster_sources(plan: BuildPlan, vectors: Vectors) -> SourceClusters:
    """Cluster the sources as the settings ask for.

    Args:
        plan: What is built.
        vectors: float32 [N, D], unit rows: the sources.

    Raises:
        InputError: Centroids of another dimension than the sources.
    """
    config, texts = plan.config, plan.table.source_texts
    names: Sequence[str] | None = None
    if plan.keyword_clusters is not None:
        found = plan.keyword_clusters
        clusters = place_sources(vectors, found.centroids, _keywords_by_source(plan, found), found.cluster_of_keyword)
        names, source = found.names, plan.cluster_file.name if plan.cluster_file else "keyword clusters"
    elif config.clustering in {"topic", "title"}:
        grouped = clusters_by_topic(vectors, plan.topics(), config.clustering)
        clusters, names, source = grouped.clusters, grouped.names, f"the documents' {config.clustering}s"
    else:
        clusters = spherical_k_means(vectors, config.n_clusters, seed=config.random_seed)
        source = f"spherical k-means, seed {config.random_seed}"
    described = describe_clusters(texts, clusters.assignment.tolist(), len(clusters.centroids), config.language)
    shown = tuple(names) if names is not None else tuple(one.name for one in described)
    return SourceClusters(clusters, shown, tuple(one.terms for one in described), source)


def _keywords_by_source(plan: BuildPlan, found: ClusterFile) -> list[list[Sequence[str]]]:
    """For each source the keywords of its pairs; where none are given, those that stand in its text."""
    by_source: defaultdict[str, list[Sequence[str]]] = defaultdict(list)
    for (_, document_id), keywords in plan.given.keywords.items():
        by_source[document_id].append(keywords)
    if not by_source:
        known = KeywordVocabulary.of_lists([[keyword] for keyword in found.cluster_of_keyword], plan.config.language)
        for document, counts in zip(plan.table.documents, known.find(plan.table.source_texts), strict=True):
            # The word that stands there most often comes first: it decides where clusters have equally many.
            by_source[document.id].append([known.keywords[row] for row in sorted(counts, key=lambda r: -counts[r])])
    return [by_source[document.id] for document in plan.table.documents]
