from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.models.guard import Vectors, unit
from jasper_rag.models.topic_router import EVIDENCE, TopicRouter
from jasper_rag.models.topics import Topics
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.retrieval.topic_search import Preference, preferred_rows, preferring_top_k, route

DOCUMENTS, QUESTIONS, DIM, COUNT = 150, 70, 8, 6  # more questions than are scored at a time
TEXTS = [f"word{number % 7} word{number % 5} common" for number in range(DOCUMENTS)]
ASKED = [f"word{number % 7} word{number % 3}" for number in range(QUESTIONS)]
ASSIGNMENT = np.random.default_rng(4).integers(COUNT, size=DOCUMENTS)


def drawn(rows: int, seed: int) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32))


SEARCHED = drawn(QUESTIONS, 0)


def retriever(*, lexical: bool = True, passages: bool = False, weight: float = 0.3) -> HybridRetriever:
    vectors = DocumentVectors(drawn(DOCUMENTS, 1))
    if passages:
        spans = np.zeros((2 * DOCUMENTS, 2), dtype=np.int64)
        vectors = DocumentVectors(drawn(2 * DOCUMENTS, 2), Passages(np.arange(0, 2 * DOCUMENTS, 2), spans))
    return HybridRetriever(vectors, LexicalIndex.build(TEXTS) if lexical else None, weight)


def standardised(row: NDArray[np.float64]) -> NDArray[np.float64]:
    spread: NDArray[np.float64] = (row - row.mean()) / row.std() if np.ptp(row) else np.zeros_like(row)
    return spread


def expected_scores(asked: HybridRetriever, texts: list[str] | None) -> NDArray[np.float64]:
    """One question at a time."""
    rows = asked.vectors.vectors.astype(np.float64)
    found = []
    for number, question in enumerate(SEARCHED):
        cosines = rows @ question
        if asked.vectors.passages is not None:
            cosines = cosines.reshape(DOCUMENTS, 2).max(axis=1)
        score = standardised(cosines)
        if texts is not None and asked.lexical is not None:
            words = asked.lexical.scores([texts[number]])[0].astype(np.float64)
            score = (1 - asked.weight) * score + asked.weight * standardised(words)
        found.append(score)
    return np.array(found)


VARIANTS = pytest.mark.parametrize(
    ("lexical", "passages", "texts"),
    [(True, False, ASKED), (True, False, None), (False, False, ASKED), (False, True, None), (True, True, ASKED)],
    ids=["both", "no texts", "no BM25", "passages", "both, passages"],
)


@VARIANTS
def test_scores_are_in_standard_deviations(lexical: bool, passages: bool, texts: list[str] | None) -> None:
    asked = retriever(lexical=lexical, passages=passages)
    blocks = list(asked.standard_scores(SEARCHED, texts))
    assert len(blocks) > 1
    assert np.concatenate([rows for _, rows in blocks]).tolist() == list(range(QUESTIONS))
    np.testing.assert_allclose(
        np.concatenate([scores for scores, _ in blocks]), expected_scores(asked, texts), atol=2e-5
    )


@VARIANTS
@pytest.mark.parametrize("k", [1, 10, 500])
def test_a_bonus_is_added_to_them(lexical: bool, passages: bool, texts: list[str] | None, k: int) -> None:
    asked = retriever(lexical=lexical, passages=passages)
    bonus = np.random.default_rng(5).uniform(0, 2, DOCUMENTS).astype(np.float32)
    scores, rows = preferring_top_k(asked, SEARCHED, texts, bonus, k)
    expected = expected_scores(asked, texts) + bonus
    best = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    assert rows.shape == (QUESTIONS, min(k, DOCUMENTS))
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64
    np.testing.assert_allclose(scores, np.take_along_axis(expected, best, axis=1), atol=2e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, rows, axis=1), scores, atol=2e-5)


@VARIANTS
def test_each_preference_is_a_search_of_its_own(lexical: bool, passages: bool, texts: list[str] | None) -> None:
    asked = retriever(lexical=lexical, passages=passages)
    generator = np.random.default_rng(6)
    preferences = [Preference(generator.integers(-1, COUNT, size=QUESTIONS), bonus) for bonus in (0.5, 2.0)]
    found = preferred_rows(asked, SEARCHED, texts, ASSIGNMENT, preferences, 10)
    plain = expected_scores(asked, texts)
    assert len(found) == 2
    for preference, rows in zip(preferences, found, strict=True):
        for question, topic in enumerate(preference.topics):
            expected = plain[question] + preference.bonus * (topic == ASSIGNMENT)
            # Equal up to rounding, in any order.
            np.testing.assert_allclose(expected[rows[question]], -np.sort(-expected)[:10], atol=2e-5)


def test_no_preference_is_the_search_that_ships() -> None:
    asked = retriever()
    (found,) = preferred_rows(asked, SEARCHED, ASKED, ASSIGNMENT, [Preference(np.full(QUESTIONS, -1), 9.0)], 10)
    scores, rows = asked.hybrid(SEARCHED, ASKED, 10)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(
        preferring_top_k(asked, SEARCHED, ASKED, np.zeros(DOCUMENTS, dtype=np.float32), 10)[0], scores
    )
    np.testing.assert_array_equal(
        preferring_top_k(asked, SEARCHED, None, np.zeros(DOCUMENTS, dtype=np.float32), 10)[1],
        asked.dense(SEARCHED, 10)[1],
    )
    assert preferred_rows(asked, SEARCHED, ASKED, ASSIGNMENT, [], 10) == []


def test_a_large_bonus_is_a_filter() -> None:
    topics = np.arange(QUESTIONS) % COUNT
    (found,) = preferred_rows(retriever(), SEARCHED, ASKED, ASSIGNMENT, [Preference(topics, 1e3)], 10)
    assert (ASSIGNMENT[found] == topics[:, np.newaxis]).all()


@pytest.mark.parametrize("texts", [[], None])
def test_no_question_is_no_row(texts: list[str] | None) -> None:
    asked, none = retriever(), SEARCHED[:0]
    scores, rows = preferring_top_k(asked, none, texts, np.zeros(DOCUMENTS, dtype=np.float32), 10)
    assert (scores.shape, rows.shape) == ((0, 10), (0, 10))
    preferences = [Preference(np.zeros(0, dtype=np.int64), 1.0)] * 2
    for found in preferred_rows(asked, none, texts, ASSIGNMENT, preferences, 500):
        assert found.shape == (0, DOCUMENTS)
        assert found.dtype == np.int64


@pytest.mark.parametrize("passages", [False, True])
def test_routing_asks_the_best_documents_of_the_whole_corpus(passages: bool) -> None:
    """Sorting all of them, and one softmax per question."""
    documents = retriever(passages=passages).vectors
    topics = Topics(tuple("abcdef"), ((),) * COUNT, drawn(COUNT, 3), ASSIGNMENT)
    router = TopicRouter(0.1, 1.4, 0.01)
    weights = route(SEARCHED, documents, topics, router)
    assert weights.shape == (QUESTIONS, COUNT)
    assert weights.dtype == np.float32
    for question, found in zip(SEARCHED, weights, strict=True):
        scores = (documents.vectors @ question).astype(np.float64)
        scores = scores.reshape(DOCUMENTS, -1).max(axis=1)
        best = np.argsort(-scores)[:EVIDENCE]
        powers = np.exp(scores[best] / 0.1)
        mass = np.array([powers[ASSIGNMENT[best] == topic].sum() for topic in range(COUNT)]) / powers.sum()
        shares = (mass + 0.01) ** (1 / 1.4)
        np.testing.assert_allclose(found, shares / shares.sum(), atol=1e-5)
    few = route(SEARCHED, documents.select(np.arange(3)), topics.select(np.arange(3)), router)
    np.testing.assert_allclose(few.sum(axis=1), 1, atol=1e-6)
    assert route(SEARCHED[:0], documents, topics, router).shape == (0, COUNT)
