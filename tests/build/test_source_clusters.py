from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import BuildPlan, plan_build
from jasper_rag.build.clustering import spherical_k_means
from jasper_rag.build.source_clusters import SourceClusters, cluster_sources
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import RetrievalSet


def planned(given: BuildInput, cluster_file: Path | None = None, **settings: Any) -> BuildPlan:
    return plan_build(given, BuildConfig.model_validate({"negatives": {"n_neg": 4}, **settings}), cluster_file)


def clustered(plan: BuildPlan, encoder: Encoder) -> SourceClusters:
    return cluster_sources(plan, encoder.encode(plan.table.source_texts, "document"))


def topic_of(plan: BuildPlan, found: SourceClusters) -> dict[str, set[str]]:
    """Name of each cluster -> topics of its sources."""
    topics: dict[str, set[str]] = {name: set() for name in found.names}
    for document, cluster in zip(plan.table.documents, found.clusters.assignment.tolist(), strict=True):
        topics[found.names[cluster]].add(document.topic)
    return topics


def test_k_means_is_that_of_the_clustering_with_names(library: RetrievalSet, word_encoder: Encoder) -> None:
    plan = planned(BuildInput(library), n_clusters=5, random_seed=3)
    found = clustered(plan, word_encoder)
    expected = spherical_k_means(word_encoder.encode(plan.table.source_texts, "document"), 5, seed=3)
    np.testing.assert_array_equal(found.clusters.assignment, expected.assignment)
    assert found.source == "spherical k-means, seed 3"
    assert len(set(found.names)) == 5
    records = found.records()
    assert [record["sources"] for record in records] == np.bincount(expected.assignment).tolist()
    assert all(record["name"] and record["terms"] for record in records)


@pytest.mark.parametrize("by", ["topic", "title"])
def test_given_topics(library: RetrievalSet, word_encoder: Encoder, by: str) -> None:
    plan = planned(BuildInput(library), clustering=by)
    found = clustered(plan, word_encoder)
    assert topic_of(plan, found) == {name: {name} for name in ("sea", "garden", "music", "kitchen", "weather")}
    assert found.source == f"the documents' {by}s"


@pytest.fixture
def cluster_file(tmp_path: Path, word_encoder: Encoder) -> Path:
    """Keywords of two words too, and one in capitals."""
    keywords = {"SHIP": 0, "harbour sailor": 0, "rose": 1, "tulip": 1, "violin": 2}
    centroids = word_encoder.encode(["sea", "garden", "music"], "query").tolist()
    content = {"metadata": {"n_clusters": 3}, "cluster_assignments": keywords, "centroids": centroids}
    path = tmp_path / "clusters.json"
    path.write_text(json.dumps(content))
    return path


def test_a_cluster_file_places_sources_by_the_keywords_of_their_pairs(
    library: RetrievalSet, word_encoder: Encoder, cluster_file: Path
) -> None:
    keywords = {("kitchen-0-0", "kitchen-0"): ("Rose", "unknown"), ("kitchen-0-1", "kitchen-0"): ("rose ", "violin")}
    plan = planned(BuildInput(library, keywords=keywords), cluster_file, clustering="file")
    found = clustered(plan, word_encoder)
    assert found.names == ("ship, harbour sailor", "rose, tulip", "violin")
    assert found.source == "clusters.json"
    rows = {document.id: row for row, document in enumerate(plan.table.documents)}
    assert found.clusters.assignment[rows["kitchen-0"]] == 1
    # The others have no keyword and go where they are nearest.
    assert found.clusters.assignment[rows["music-1"]] == 2


def test_without_given_keywords_the_words_of_the_sources_place_them(
    library: RetrievalSet, word_encoder: Encoder, cluster_file: Path
) -> None:
    plan = planned(BuildInput(library), cluster_file, clustering="file")
    found = clustered(plan, word_encoder)
    for document, cluster in zip(plan.table.documents, found.clusters.assignment.tolist(), strict=True):
        if "ship" in document.text or "harbour sailor" in document.text:
            assert cluster == 0
        elif "rose" in document.text or "tulip" in document.text:
            assert cluster == 1
