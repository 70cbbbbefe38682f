from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jasper_rag.explain import routing_view as module
from jasper_rag.explain.routing_view import RoutingView, confusion_counts, routing_view
from jasper_rag.explain.topic_map import topic_map
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import Topics


def arguments(sources: int = 60, count: int = 4, asked: int = 9) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    centroids = unit(generator.standard_normal((count, 8)).astype(np.float32))
    assignment = np.arange(sources) % count
    names = tuple(f"t{number}" for number in range(count))
    probabilities = generator.random((asked, count)).astype(np.float32)
    return {
        "document_vectors": unit(generator.standard_normal((sources, 8)).astype(np.float32)),
        "document_labels": [f"label {number}" for number in range(sources)],
        "topics": Topics(names, tuple((name,) for name in names), centroids, assignment),
        "question_texts": [f"question {number}" for number in range(asked)],
        "questions": unit(generator.standard_normal((asked, 8)).astype(np.float32)),
        "predictions": unit(generator.standard_normal((asked, 8)).astype(np.float32)),
        "hits": generator.integers(sources, size=(asked, 3)),
        "routing": probabilities / probabilities.sum(axis=1, keepdims=True),
        "right": generator.integers(-1, count, size=asked),
        "shown": [4, 0, 4],
    }


@pytest.mark.slow
def test_a_question_keeps_its_hits_routes_and_answer() -> None:
    given = arguments()
    view = routing_view(**given)
    assert [question.text for question in view.questions] == ["question 4", "question 0"]
    first = view.questions[0]
    assert [view.labels[hit] for hit in first.hits] == [f"label {row}" for row in given["hits"][4]]
    order = sorted(range(4), key=lambda topic: -given["routing"][4, topic])
    assert [topic for topic, _ in first.routes] == order
    assert first.routed == order[0]
    assert sum(probability for _, probability in first.routes) == pytest.approx(1, abs=1e-6)
    assert first.right == given["right"][4]
    assert (view.asked, view.sizes) == (9, (15, 15, 15, 15))


def test_the_confusion_counts_every_known_question_once() -> None:
    generator = np.random.default_rng(1)
    right, routed = generator.integers(-1, 5, size=200), generator.integers(5, size=200)
    expected = np.zeros((5, 5), dtype=int)
    for one, other in zip(right, routed, strict=True):
        if one >= 0:
            expected[one, other] += 1
    np.testing.assert_array_equal(confusion_counts(right, routed, 5), expected)


@pytest.mark.slow
def test_the_map_is_that_of_the_sources() -> None:
    given = arguments()
    view = routing_view(**given)
    topics = given["topics"]
    alone = topic_map(given["document_vectors"], topics.assignment, topics.centroids)
    np.testing.assert_allclose(view.layout.points, alone.points, atol=1e-6)
    np.testing.assert_array_equal(view.topics, topics.assignment)


@pytest.mark.slow
def test_a_question_stands_in_the_disc_of_the_nearest_centroid() -> None:
    given = arguments()
    view = routing_view(**given)
    nearest = given["topics"].nearest(given["predictions"])[[4, 0]]
    for question, topic in zip(view.questions, nearest, strict=True):
        away = np.linalg.norm(np.array(question.predicted) - view.layout.centres[topic])
        assert away <= view.layout.radii[topic] + 1e-9


@pytest.mark.slow
def test_a_topic_without_sources_has_no_disc() -> None:
    given = arguments()
    topics = given["topics"]
    given["topics"] = Topics(
        topics.names, topics.terms, topics.centroids, np.where(topics.assignment == 2, 3, topics.assignment)
    )
    view = routing_view(**given)
    assert view.discs.tolist() == [0, 1, 3]
    assert len(view.layout.centres) == 3
    assert view.sizes == (15, 15, 0, 30)
    assert view.confusion.shape == (4, 4)


@pytest.mark.slow
def test_a_large_corpus_is_thinned_but_keeps_every_hit_and_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SOURCES", 30)
    given = arguments(sources=300)
    view = routing_view(**given)
    assert 20 <= len(view.labels) <= 30
    assert set(view.topics.tolist()) == {0, 1, 2, 3}
    for row, question in zip([4, 0], view.questions, strict=True):
        assert [view.labels[hit] for hit in question.hits] == [f"label {hit}" for hit in given["hits"][row]]
    assert routing_view(**given).labels == view.labels


@pytest.mark.slow
def test_missing_hits_and_no_questions_are_fine() -> None:
    given = arguments()
    given["hits"][4] = [7, -1, -1]
    assert [len(question.hits) for question in routing_view(**given).questions] == [1, 3]
    assert routing_view(**{**given, "shown": []}).questions == ()


@pytest.mark.slow
def test_labels_are_clipped(make_view: Callable[..., RoutingView]) -> None:
    given = arguments()
    given["document_labels"][0] = "word " * 50
    assert len(routing_view(**given).labels[0]) < 70


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("document_labels", ["one"], "of \\[1, 60\\] documents"),
        ("question_texts", ["one"], "of \\[1, 9\\] questions"),
        ("predictions", np.zeros((9, 5), dtype=np.float32), "beside documents"),
        ("routing", np.zeros((9, 7), dtype=np.float32), "over 4 topics"),
        ("right", np.full(9, 4), "right topics outside -1 to 3"),
        ("hits", np.full((9, 2), 60), "hits outside -1 to 59"),
        ("shown", [9], "outside 0 to 8"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        routing_view(**{**arguments(), name: value})
