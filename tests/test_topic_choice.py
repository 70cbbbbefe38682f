from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import pytest

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import Guard, unit
from jasper_rag.models.topics import steering_towards
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.topic_choice import Steer, parse_steer
from jasper_rag.training.predictor_training import predict

QUESTION = "car or film"


class Refusing:
    """An encoder that must not be asked."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        raise AssertionError("the encoder was used")


@pytest.mark.parametrize(
    ("given", "kind", "value"),
    [
        ("topic:Git, commit", "topic", "Git, commit"),
        (" Topic : git ", "topic", "git"),
        ("topic:#3", "topic", "#3"),
        ("#12", "topic", "#12"),
        ("text:how to: rebase", "text", "how to: rebase"),
    ],
)
def test_steering_is_read(given: str, kind: str, value: str) -> None:
    assert parse_steer(given) == Steer(kind, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", "git", "topic:", "text: ", "cluster:3", ":git"])
def test_what_cannot_be_read_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="cannot steer to") as caught:
        parse_steer(given)
    assert "topic:NAME" in caught.value.remedy


def steered(jasper: Jasper, questions: Vectors, centroid: Vectors) -> Vectors:
    return unit(predict(jasper.model.predictor, questions, steering_towards(questions, centroid)))


def test_a_steered_search_is_ungated_and_beside_bm25(fitted: Jasper) -> None:
    model = fitted.model
    closed = Jasper(dataclasses.replace(model, guard=Guard(0.0), openness=1.0), fitted.encoder)
    assert model.topics is not None
    questions = fitted.encoder.encode([QUESTION], "query")
    vectors = steered(fitted, questions, model.topics.centroids[2])
    np.testing.assert_array_equal(closed.transform(questions, steer="#3"), vectors)
    expected = HybridRetriever(model.vectors, model.lexical, model.weights.jasper).hybrid(vectors, [QUESTION], 7)
    for hits in (closed.search(QUESTION, 7, steer="#3"), closed.search_many([QUESTION] * 2, 7, steer="#3")[1]):
        assert [hit.document.id for hit in hits] == [model.documents[row].id for row in expected[1][0]]
        assert [hit.score for hit in hits] == pytest.approx(expected[0][0].tolist())
    dense = fitted.search(QUESTION, 7, "dense", steer="#3")
    assert [hit.document.id for hit in dense] == [
        model.documents[row].id for row in model.vectors.top_k(vectors, 7)[1][0]
    ]


def test_a_name_and_its_number_are_one_topic(fitted: Jasper) -> None:
    topic = fitted.topics[4]
    by_number = fitted.search(QUESTION, steer="#5")
    assert topic.number == 5
    assert fitted.search(QUESTION, steer=f"topic:{topic.name.upper()}") == by_number
    assert by_number != fitted.search(QUESTION)


def test_words_of_ones_own(fitted: Jasper) -> None:
    questions = fitted.encoder.encode([QUESTION], "query")
    centroid = fitted.encoder.encode(["ocean and garden"], "document")[0]
    moved = fitted.transform(questions, steer="text:ocean and garden")
    np.testing.assert_allclose(moved, steered(fitted, questions, centroid), atol=1e-6)


def test_topics_are_listed_and_offered(fitted: Jasper) -> None:
    topics = fitted.topics
    assert [topic.number for topic in topics] == list(range(1, 14))
    assert sum(topic.documents for topic in topics) == 160
    offered = fitted.offered_topics(QUESTION)
    weights = [weight for _, weight in offered]
    assert len(offered) == 3
    assert weights == sorted(weights, reverse=True)
    assert sum(weight for _, weight in fitted.offered_topics(QUESTION, 13)) == pytest.approx(1, abs=1e-5)
    assert all(topic == topics[topic.number - 1] for topic, _ in offered)


def test_bad_choices_are_found_before_the_encoder_is_asked(fitted: Jasper) -> None:
    deaf = Jasper(fitted.model, Refusing())
    for steer in ("#99", "topic:nothing like it", "what"):
        with pytest.raises(InputError) as caught:
            deaf.search(QUESTION, steer=steer)
        assert caught.value.field == "steer"
    with pytest.raises(InputError, match="the question is empty"):
        deaf.offered_topics(" ")


def test_the_plain_encoder_cannot_be_steered(fitted: Jasper) -> None:
    with pytest.raises(InputError, match="cannot be steered"):
        fitted.search(QUESTION, ranker="plain", steer="#1")


def test_a_model_without_topics(fitted: Jasper) -> None:
    bare = Jasper(dataclasses.replace(fitted.model, topics=None), fitted.encoder)
    assert bare.topics == ()
    for ask in (lambda: bare.offered_topics(QUESTION), lambda: bare.search(QUESTION, steer="text:ocean")):
        with pytest.raises(InputError, match="has no topics"):
            ask()


def test_a_model_that_does_not_follow_says_so(
    fitted: Jasper, word_encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    assert fitted.record is not None
    unled = dataclasses.replace(fitted.model, predictor=fitted.record.candidates.trained.model)
    with caplog.at_level(logging.WARNING, logger="jasper_rag"):
        Jasper(unled, word_encoder).search(QUESTION, steer="#1")
    assert "steering does nothing here" in caplog.text
