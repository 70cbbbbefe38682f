from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.models.topic_router import TopicRouter

QUESTION = "car or film"


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


def test_topics_are_offered_by_the_documents_that_a_search_finds(fitted: Jasper) -> None:
    """By hand: guard, softmax over the best documents, calibration."""
    model, topics = fitted.model, fitted.model.topics
    assert topics is not None
    asked = [QUESTION, "road and sofa"]
    vectors = fitted.transform(fitted.encoder.encode(asked, "query"))
    for question, vector in zip(asked, vectors, strict=True):
        scores = model.vectors.vectors.astype(np.float64) @ vector
        best = np.argsort(-scores)[:100]
        powers = np.exp((scores[best] - scores.max()) / 0.03)
        mass = np.bincount(topics.assignment[best], powers / powers.sum(), len(topics))
        shares = (mass + 1e-3) ** (1 / model.routing.router.calibration)
        order = np.argsort(-shares)[:3]
        offered = fitted.offered_topics(question)
        assert [topic.number for topic, _ in offered] == (order + 1).tolist()
        assert [weight for _, weight in offered] == pytest.approx((shares / shares.sum())[order], abs=1e-4)


def test_a_calibrated_router_offers_the_same_topics_less_surely(fitted: Jasper) -> None:
    routing = dataclasses.replace(fitted.model.routing, router=TopicRouter(calibration=3.0))
    unsure = Jasper(dataclasses.replace(fitted.model, routing=routing), fitted.encoder)
    for (topic, weight), (same, less) in zip(
        fitted.offered_topics(QUESTION), unsure.offered_topics(QUESTION), strict=True
    ):
        assert topic == same
        assert less < weight or topic != fitted.offered_topics(QUESTION)[0][0]


def test_an_empty_question_is_offered_nothing(fitted: Jasper) -> None:
    with pytest.raises(InputError, match="the question is empty"):
        fitted.offered_topics(" ")


def test_a_model_without_topics(fitted: Jasper) -> None:
    bare = Jasper(dataclasses.replace(fitted.model, topics=None), fitted.encoder)
    assert bare.topics == ()
    for ask in (lambda: bare.offered_topics(QUESTION), lambda: bare.search(QUESTION, steer="text:ocean")):
        with pytest.raises(InputError, match="has no topics"):
            ask()
