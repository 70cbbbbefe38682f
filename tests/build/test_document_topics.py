from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jasper_rag.build.clustering import spherical_k_means
from jasper_rag.build.document_topics import document_directions, document_topics
from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.models.guard import Vectors, unit
from jasper_rag.text.records import Document

WORDS = ("apple", "boat", "candle")


@pytest.fixture
def vectors() -> Vectors:
    """30 rows around three axes."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((30, 4))
    return unit((np.eye(3, 4)[np.arange(30) % 3] + noise).astype(np.float32))


def documents_of(count: int, topics: tuple[str, ...] = ("",)) -> tuple[Document, ...]:
    return tuple(
        Document(f"d{row}", f"about one {WORDS[row % 3]}", topic=topics[row % len(topics)]) for row in range(count)
    )


def test_topics_are_found_and_named(vectors: Vectors) -> None:
    found = document_topics(documents_of(30), DocumentVectors(vectors), 3, seed=4)
    reference = spherical_k_means(vectors, 3, seed=4)
    assert found.topics is not None
    np.testing.assert_array_equal(found.topics.assignment, reference.assignment)
    np.testing.assert_allclose(found.topics.centroids, reference.centroids, atol=1e-6)
    for row, word in enumerate(WORDS):
        assert found.topics.names[found.topics.assignment[row]].startswith(word)
    assert found.source == "spherical k-means, seed 4"
    by_rule = document_topics(documents_of(30), DocumentVectors(vectors))
    assert by_rule.topics is not None
    assert len(by_rule.topics) == 5  # the root of 30


def test_without_texts_topics_have_numbers(vectors: Vectors) -> None:
    documents = tuple(Document(f"d{row}", "") for row in range(30))
    found = document_topics(documents, DocumentVectors(vectors), 3)
    assert found.topics is not None
    assert found.topics.names == ("topic 1", "topic 2", "topic 3")


def test_given_topics_are_kept(vectors: Vectors) -> None:
    documents = documents_of(30, ("Fruit", "Sea", "Light"))
    documents = (dataclasses.replace(documents[0], topic=""), *documents[1:])
    found = document_topics(documents, DocumentVectors(vectors))
    assert found.topics is not None
    assert found.source == "the documents' topics"
    assert sorted(found.topics.names) == ["Fruit", "Light", "Sea"]
    names = [found.topics.names[row] for row in found.topics.assignment]
    assert names == ["Fruit", "Sea", "Light"] * 10  # the first one joined the nearest
    assert "apple" in found.topics.terms[found.topics.names.index("Fruit")]


@pytest.mark.parametrize(
    "topics",
    [("Fruit", "", ""), ("one and the same",), tuple(f"t{row}" for row in range(30))],
    ids=["too few have one", "one", "one each"],
)
def test_given_topics_that_group_nothing(vectors: Vectors, topics: tuple[str, ...]) -> None:
    found = document_topics(documents_of(30, topics), DocumentVectors(vectors))
    assert found.source.startswith("spherical k-means")


def test_a_count_asks_for_k_means(vectors: Vectors) -> None:
    found = document_topics(documents_of(30, ("Fruit", "Sea", "Light")), DocumentVectors(vectors), 4)
    assert found.topics is not None
    assert len(found.topics) == 4


@pytest.mark.parametrize("rows", [1, 3])
def test_documents_that_do_not_differ(rows: int) -> None:
    same = np.tile(np.eye(1, 4, dtype=np.float32), (rows, 1))
    found = document_topics(documents_of(rows), DocumentVectors(same))
    assert (found.topics, found.source) == (None, "fewer than two documents differ")


def test_a_document_without_direction_joins_the_first(vectors: Vectors) -> None:
    silent = vectors.copy()
    silent[7] = 0
    found = document_topics(documents_of(30), DocumentVectors(silent), 3)
    assert found.topics is not None
    assert found.topics.assignment[7] == 0
    assert found.topics.sizes.sum() == 30
    nothing = document_topics(documents_of(30), DocumentVectors(np.zeros_like(vectors)))
    assert nothing.topics is None


def test_a_document_points_where_its_passages_do_together(vectors: Vectors) -> None:
    starts = np.array([0, 1, 4])
    passages = Passages(starts, np.zeros((6, 2), dtype=np.int64))
    directions = document_directions(DocumentVectors(vectors[:6], passages))
    expected = [vectors[start:end].mean(axis=0) for start, end in ((0, 1), (1, 4), (4, 6))]
    np.testing.assert_allclose(directions, unit(np.array(expected)), atol=1e-6)
    np.testing.assert_allclose(document_directions(DocumentVectors(vectors)), vectors, atol=1e-6)
