from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch

from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.fitting.routing_fitting import BONUSES, WRONG_CHOICES, fit_routing, steering_on
from jasper_rag.fitting.topic_fitting import FittedTopics
from jasper_rag.jasper import FitRecord, Jasper
from jasper_rag.metrics.ranking import ndcg
from jasper_rag.models.guard import Guard, Vectors, unit
from jasper_rag.models.topic_router import EVIDENCE, Routing, TopicRouter, relative_atypicality
from jasper_rag.models.topics import Topics, answer_topics
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.retrieval.topic_search import route
from jasper_rag.training.predictor_training import predict


@pytest.fixture(scope="module")
def record(fitted: Jasper) -> FitRecord:
    assert fitted.record is not None
    return fitted.record


@pytest.fixture(scope="module")
def topics(fitted: Jasper) -> Topics:
    assert fitted.model.topics is not None
    return fitted.model.topics


@pytest.fixture(scope="module")
def retriever(fitted: Jasper) -> HybridRetriever:
    return HybridRetriever(fitted.model.vectors, fitted.model.lexical, fitted.model.weights.jasper)


def searched(record: FitRecord, queries: EmbeddedQueries) -> Vectors:
    """What the search that ships searches with, over the documents trained on."""
    return record.guard.guard.blend(queries.vectors, predict(record.candidates.trained.model, queries.vectors))


def fitted_on(
    record: FitRecord, retriever: HybridRetriever, dev: EmbeddedQueries, topics: FittedTopics | None = None
) -> Routing:
    candidates = dataclasses.replace(record.candidates, dev=dev)
    return fit_routing(record.embedded, candidates, record.guard.guard, retriever, topics or record.topics, 0)


def joined(record: FitRecord, splits: tuple[str, ...]) -> EmbeddedQueries:
    first, *others = (record.embedded.splits[split] for split in splits)
    for other in others:
        first = first.followed_by(other)
    return first


def by_evidence(record: FitRecord, retriever: HybridRetriever, topics: Topics, dev: EmbeddedQueries) -> Vectors:
    """log(m + e) of each dev question, one at a time."""
    rows = retriever.vectors.vectors.astype(np.float64)
    found = []
    for question in searched(record, dev):
        scores = rows @ question
        best = np.argsort(-scores)[:EVIDENCE]
        powers = np.exp((scores[best] - scores.max()) / 0.03)
        mass = np.array([powers[topics.assignment[best] == topic].sum() for topic in range(len(topics))])
        found.append(np.log(mass / powers.sum() + 1e-3))
    return np.array(found, dtype=np.float32)


def test_without_topics_there_is_nothing_to_fit(record: FitRecord, retriever: HybridRetriever) -> None:
    none = dataclasses.replace(record.topics, topics=None)
    found = fitted_on(record, retriever, record.candidates.dev, none)
    assert (found.router, found.bonus, found.follow, len(found.usual)) == (TopicRouter(), 1.0, False, 0)


@pytest.mark.slow
def test_the_calibration_is_that_of_dev(
    fitted: Jasper, record: FitRecord, retriever: HybridRetriever, topics: Topics
) -> None:
    """The temperature with the least cross entropy, drawn to 1 as by 30 more questions."""
    for splits in (("dev",), ("dev", "test")):
        dev = joined(record, splits)
        logits = torch.tensor(by_evidence(record, retriever, topics, dev))
        right = torch.tensor(answer_topics(dev.judgements, topics.assignment))
        grid = np.geomspace(0.1, 10, 201)
        losses = [float(torch.nn.functional.cross_entropy(logits / each, right)) for each in grid]
        expected = grid[np.argmin(losses)] ** (len(dev) / (len(dev) + 30))
        found = fitted_on(record, retriever, dev).router
        assert found.calibration == pytest.approx(expected, rel=1e-3)
        assert (found.temperature, found.floor) == (TopicRouter().temperature, TopicRouter().floor)
    assert fitted.model.routing.router == fitted_on(record, retriever, record.candidates.dev).router


Way = tuple[bool, float]


def brute_curve(
    record: FitRecord, retriever: HybridRetriever, topics: Topics, dev: EmbeddedQueries
) -> dict[Way, float]:
    """Each question by itself: four in five choose rightly among three, one takes the likeliest other topic."""
    logits, vectors, model = by_evidence(record, retriever, topics, dev), searched(record, dev), record.topics.model
    right = answer_topics(dev.judgements, topics.assignment)
    curve: dict[Way, float] = {(follow, bonus): 0.0 for follow in (False, True) for bonus in BONUSES}
    for row in range(len(dev)):
        question, judged = dev.vectors[[row]], dev.judgements.select(np.array([row]))
        offered = np.argsort(-logits[row])[:3].tolist()
        others = [topic for topic in offered if topic != right[row]]
        for share, topic in ((1 - WRONG_CHOICES, right[row]), (WRONG_CHOICES, others[0])):
            inside = (topics.assignment == topic) & (right[row] in offered)
            difference = topics.centroids[[topic]] - question
            steered = unit(predict(model, question, difference / np.linalg.norm(difference)))
            for follow, bonus in curve:
                asked = steered if follow and right[row] in offered else vectors[[row]]
                ((scores, _),) = retriever.standard_scores(asked, [dev.texts[row]])
                best = np.argsort(-(scores[0] + bonus * inside), kind="stable")[np.newaxis, :10]
                curve[follow, bonus] += share * float(ndcg(best, judged, 10)[0]) / len(dev)
    return curve


@pytest.mark.slow
@pytest.mark.parametrize("splits", [("dev",), ("test", "dev")])
def test_the_way_to_steer_is_the_best_of_a_curve(
    record: FitRecord,
    retriever: HybridRetriever,
    topics: Topics,
    splits: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dev = joined(record, splits)
    curve = brute_curve(record, retriever, topics, dev)
    for topics_found in (record.topics, dataclasses.replace(record.topics, model=record.candidates.trained.model)):
        with caplog.at_level(logging.INFO, logger="jasper_rag"):
            found = fitted_on(record, retriever, dev, topics_found)
        # A predictor that does not follow topics is not asked to.
        tried = {way: value for way, value in curve.items() if topics_found is record.topics or not way[0]}
        best = max(tried.values())
        assert (found.follow, found.bonus) == next(way for way, value in tried.items() if value >= best - 1e-9)
        shown = [f"{'moved, ' if follow else ''}{bonus:g}: {value:.3f}" for (follow, bonus), value in tried.items()]
        assert caplog.messages[-1].endswith(f"adds {found.bonus:g} (dev nDCG@10 by {', '.join(shown)})")


@pytest.mark.slow
def test_too_few_dev_questions_leave_train_to_say_what_is_usual(
    record: FitRecord, retriever: HybridRetriever, topics: Topics
) -> None:
    many = joined(record, ("dev", "test", "train"))
    for dev, like in ((record.candidates.dev, record.embedded.splits["train"]), (many, many)):
        found = fitted_on(record, retriever, dev)
        vectors = searched(record, like)
        values = relative_atypicality(
            vectors, route(vectors, retriever.vectors, topics, found.router), topics.centroids
        )
        assert found.usual.dtype == np.float32
        np.testing.assert_allclose(found.usual, np.quantile(values, np.linspace(0, 1, 257)), rtol=1e-5)
        assert (np.diff(found.usual) >= 0).all()


def test_without_a_known_answer_the_usual_numbers_stay(
    record: FitRecord, retriever: HybridRetriever, topics: Topics
) -> None:
    dev = record.candidates.dev
    outside = dataclasses.replace(dev.judgements, documents=np.full_like(dev.judgements.documents, -2))
    found = fitted_on(record, retriever, dataclasses.replace(dev, judgements=outside))
    assert (found.router, found.bonus, found.follow) == (TopicRouter(), 1.0, False)
    assert len(found.usual) == 257


@pytest.mark.slow
def test_without_texts_the_curve_is_of_the_dense_search(record: FitRecord, fitted: Jasper) -> None:
    wordless = dataclasses.replace(record.candidates.dev, texts=())
    wordy = HybridRetriever(fitted.model.vectors, fitted.model.lexical, 0.9)
    found = fitted_on(record, wordy, wordless)
    dense = fitted_on(record, HybridRetriever(fitted.model.vectors, None, 0.0), record.candidates.dev)
    assert (found.follow, found.bonus) == (dense.follow, dense.bonus)


@pytest.mark.slow
def test_steering_is_measured_on_what_ships(fitted: Jasper, record: FitRecord) -> None:
    found = steering_on("test", record.embedded, fitted.model)
    assert found is not None
    hybrid = record.comparison.runs["hybrid"].values
    assert found.search["zero"]["ndcg@10"] == pytest.approx(float(hybrid["ndcg@10"].mean()), abs=1e-6)
    closed = dataclasses.replace(fitted.model, guard=Guard(0.0))
    unmoved = steering_on("test", record.embedded, closed)
    assert unmoved is not None
    assert unmoved.search["zero"] != found.search["zero"]
    for mode in ("zero", "oracle"):  # the router sees what is searched with, the others follow it
        assert unmoved.modes[mode] == found.modes[mode]
    assert steering_on("test", record.embedded, dataclasses.replace(fitted.model, topics=None)) is None
