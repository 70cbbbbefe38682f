from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.evaluation.steering_modes import steering_modes
from jasper_rag.fitting.topic_fitting import fit_topics
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import load_config
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.text.records import RetrievalSet
from jasper_rag.training.predictor_training import predict

HASTY = {"training.steps": 2, "topics.steps": 2}


def test_a_fit_finds_topics_and_follows_them(fitted: Jasper) -> None:
    record, topics = fitted.record, fitted.model.topics
    assert record is not None
    assert topics is not None
    assert len(topics) == 13  # the root of 160
    assert len(topics.assignment) == 160
    guidance = record.topics.guidance
    assert guidance is not None
    assert guidance.steers
    assert guidance.dev_ndcg_guided > guidance.dev_ndcg_zero
    assert record.topics.summary().startswith("13 (spherical k-means, seed 0); dev nDCG@10 ")


def test_the_search_without_a_topic_is_untouched(fitted: Jasper) -> None:
    record = fitted.record
    assert record is not None
    questions = record.embedded.splits["test"].vectors
    before = predict(record.candidates.trained.model, questions)
    np.testing.assert_array_equal(predict(fitted.model.predictor, questions), before)


def test_metrics_hold_the_modes_of_the_test_split(fitted: Jasper) -> None:
    record = fitted.record
    assert record is not None
    assert fitted.model.topics is not None
    model, queries = fitted.model, record.embedded.splits["test"]
    expected = steering_modes(
        queries,
        fitted.transform(queries.vectors),
        model.predictor,
        HybridRetriever(model.vectors, model.lexical, model.weights.over(model.openness).jasper),
        fitted.model.topics,
        model.routing.router,
        model.routing.bonus,
        follow=model.routing.follow,
    )
    assert record.to_metrics()["steering_modes"] == expected.to_metrics()


@pytest.mark.slow
def test_topics_can_be_switched_off_or_counted(synonym_set: RetrievalSet, word_encoder: Encoder) -> None:
    off = Jasper.fit(synonym_set, encoder=word_encoder, config=load_config(overrides=HASTY | {"topics.use": False}))
    assert (off.model.topics, off.topics) == (None, ())
    assert off.record is not None
    assert off.record.to_metrics()["steering_modes"] is None
    assert off.record.topics.summary() == "none: switched off"
    four = Jasper.fit(synonym_set, encoder=word_encoder, config=load_config(overrides=HASTY | {"topics.count": 4}))
    assert len(four.topics) == 4


@pytest.mark.slow
def test_given_topics_name_the_topics(synonym_set: RetrievalSet, word_encoder: Encoder) -> None:
    documents = tuple(
        dataclasses.replace(document, topic="even" if row % 2 == 0 else "odd")
        for row, document in enumerate(synonym_set.documents)
    )
    given = dataclasses.replace(synonym_set, documents=documents)
    jasper = Jasper.fit(given, encoder=word_encoder, config=load_config(overrides=HASTY))
    assert [(topic.name, topic.documents) for topic in jasper.topics] == [("even", 80), ("odd", 80)]


def test_too_little_to_learn_from_is_said(
    fitted: Jasper, quick_settings: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    record = fitted.record
    assert record is not None
    train = record.embedded.splits["train"]
    judgements, vectors = train.judgements.select(np.arange(19)), train.vectors[:19]
    few = dataclasses.replace(train, ids=train.ids[:19], texts=train.texts[:19], vectors=vectors, judgements=judgements)
    embedded = dataclasses.replace(record.embedded, splits={**record.embedded.splits, "train": few})
    with caplog.at_level(logging.INFO, logger="jasper_rag"):
        found = fit_topics(embedded, record.candidates, load_config(overrides=quick_settings))
    assert found.topics is None
    assert found.model is record.candidates.trained.model
    assert caplog.messages[-1] == "topics: none: 19 train pairs are too few"


def test_documents_that_do_not_differ_have_no_topics(fitted: Jasper) -> None:
    record = fitted.record
    assert record is not None
    vectors = record.embedded.vectors
    same = dataclasses.replace(vectors, vectors=np.tile(vectors.vectors[:1], (len(vectors), 1)))
    embedded = dataclasses.replace(record.embedded, vectors=same)
    found = fit_topics(embedded, record.candidates, load_config())
    assert (found.topics, found.source) == (None, "fewer than two documents differ")


def test_steering_that_does_not_help_is_said_to_be_off(fitted: Jasper) -> None:
    record = fitted.record
    assert record is not None
    found = record.topics
    assert found.guidance is not None
    guidance = dataclasses.replace(found.guidance, model=record.candidates.trained.model)
    assert "does not help on dev and is off" in dataclasses.replace(found, guidance=guidance).summary()
