"""A search steered to topics: their documents are preferred, and the vector moves only where dev gained by it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import steering_towards
from jasper_rag.serving.model_search import Ranker
from jasper_rag.serving.steering_choice import Steer, followed_places, preference
from jasper_rag.training.predictor_training import predict

QUESTION, PLACE = "car or film", "document:d17"


class Refusing:
    """An encoder that must not be asked."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        raise AssertionError("the encoder was used")


def routed(fitted: Jasper, *, follow: bool, bonus: float = 0.8, encoder: Encoder | None = None) -> Jasper:
    routing = dataclasses.replace(fitted.model.routing, follow=follow, bonus=bonus)
    return Jasper(dataclasses.replace(fitted.model, routing=routing), encoder or fitted.encoder)


def standardised(row: Vectors) -> NDArray[np.float64]:
    double = row.astype(np.float64)
    return (double - double.mean()) / double.std() if np.ptp(double) else np.zeros_like(double)


@pytest.mark.parametrize("ranker", ["hybrid", "dense"])
@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("steer", [["#3"], ["#3", "topic:#5"], ["#3", PLACE]], ids=str)
def test_a_search_prefers_documents_of_its_topics(
    fitted: Jasper, follow: bool, strength: float, ranker: Ranker, steer: list[str]
) -> None:
    """z(cosine) beside z(BM25), and a bonus inside; only places that are followed move the vector."""
    jasper, model = routed(fitted, follow=follow), fitted.model
    assert model.topics is not None
    assert model.lexical is not None
    questions = fitted.encoder.encode([QUESTION], "query")
    wanted = [int(place[-1]) - 1 for place in steer if "#" in place]
    directions = [model.topics.centroids[topic] for topic in wanted] if follow else []
    directions += [model.vectors.vectors[17]] if PLACE in steer else []
    vectors = fitted.transform(questions)
    if directions:
        steering = strength * steering_towards(questions, unit(np.sum(directions, axis=0)[np.newaxis])[0])
        vectors = unit(predict(model.predictor, questions, steering.astype(np.float32)))
    scores = standardised(model.vectors.vectors @ vectors[0])
    if ranker == "hybrid":
        weight = model.weights.over(model.openness).jasper
        scores = (1 - weight) * scores + weight * standardised(model.lexical.scores([QUESTION])[0])
    scores = scores + strength * 0.8 * np.isin(model.topics.assignment, wanted)
    hits = jasper.search(QUESTION, 9, ranker, steer=steer, strength=strength)
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:9], abs=1e-4)
    rows = {document.id: row for row, document in enumerate(model.documents)}
    assert [hit.score for hit in hits] == pytest.approx([scores[rows[hit.document.id]] for hit in hits], abs=1e-4)


def test_a_preference_is_a_bonus_for_each_document(fitted: Jasper) -> None:
    model, topics = routed(fitted, follow=False).model, fitted.model.topics
    assert topics is not None
    assert preference(model, []) is None
    assert preference(model, [Steer("text", "ocean"), Steer("document", "d17")]) is None
    assert preference(model, [Steer("topic", "#3")], 0) is None
    found = preference(model, [Steer("topic", "#3"), Steer("topic", "#5"), Steer("text", "ocean")], 2.0)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1.6 if topic in (2, 4) else 0 for topic in topics.assignment], rtol=1e-6)


def test_only_places_that_dev_gained_by_are_moved_towards(fitted: Jasper) -> None:
    places = [Steer("topic", "#3"), Steer("document", "d17")]
    assert followed_places(routed(fitted, follow=False).model, places) == places[1:]
    assert followed_places(routed(fitted, follow=True).model, places) == places


def test_a_preferred_topic_needs_no_encoder(fitted: Jasper) -> None:
    deaf = routed(fitted, follow=True, encoder=Refusing())
    questions = fitted.encoder.encode([QUESTION], "query")
    inside = deaf.search_vectors(questions, 5, steer="#3", strength=4)
    assert len(inside[0]) == 5


def test_a_model_that_cannot_be_moved_prefers_all_the_same(
    fitted: Jasper, word_encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    assert fitted.record is not None
    unled = dataclasses.replace(fitted.model, predictor=fitted.record.candidates.trained.model)
    with caplog.at_level(logging.WARNING, logger="jasper_rag"):
        found = routed(Jasper(unled, word_encoder), follow=False).search(QUESTION, steer="#1")
    assert caplog.text == ""
    assert found == routed(fitted, follow=False).search(QUESTION, steer="#1") != fitted.search(QUESTION)


def test_added_documents_are_preferred_with_their_topic(fitted: Jasper) -> None:
    grown = routed(fitted, follow=False, bonus=50.0)
    source = fitted.model.documents[3]
    grown.add([dataclasses.replace(source, id="new", text=f"{source.text} and {source.text}")])
    topics = grown.model.topics
    assert topics is not None
    found = grown.search(QUESTION, 200, steer=f"#{topics.assignment[-1] + 1}")
    inside = {
        document.id
        for document, topic in zip(grown.model.documents, topics.assignment, strict=True)
        if topic == topics.assignment[-1]
    }
    assert "new" in inside
    assert {hit.document.id for hit in found[: len(inside)]} == inside
