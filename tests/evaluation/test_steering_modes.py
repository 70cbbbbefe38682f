from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.evaluation.steering_modes import SteeringModes, steering_modes
from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.metrics.ranking import evaluate
from jasper_rag.models.guard import Vectors, unit
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.topic_router import TopicRouter
from jasper_rag.models.topics import Topics
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.retrieval.topic_search import route

CUTS = {"ndcg": (10,), "recall": (10,), "mrr": (10,)}
ROUTER, BONUS, WEIGHT = TopicRouter(0.2, 1.3, 0.01), 0.75, 0.3


@pytest.fixture
def topics(worded: EmbeddedSet) -> Topics:
    """Six topics that have as little to do with the documents as can be."""
    generator = np.random.default_rng(1)
    centroids = unit(generator.standard_normal((6, 8)).astype(np.float32))
    return Topics(tuple("abcdef"), ((),) * 6, centroids, generator.integers(6, size=60))


@pytest.fixture
def predictor() -> JASPERPredictor:
    model = JASPERPredictor(JASPERPredictorConfig(embedding_dim=8, mlp=False)).eval()
    generator = torch.Generator().manual_seed(0)
    model.question_map.weight.data = 0.2 * torch.randn(8, 8, generator=generator)
    model.steering_map.weight.data = torch.eye(8) * 0.7
    return model


@pytest.fixture
def retriever(worded: EmbeddedSet) -> HybridRetriever:
    return HybridRetriever(worded.vectors, LexicalIndex.build([each.text for each in worded.documents]), WEIGHT)


def searched(queries: EmbeddedQueries) -> Vectors:
    """Neither the questions nor the predictions, as a guard leaves them."""
    noise = np.random.default_rng(3).standard_normal(queries.vectors.shape).astype(np.float32)
    return unit(queries.vectors + 0.1 * noise)


def standardised(row: NDArray[np.float32]) -> NDArray[np.float64]:
    double = row.astype(np.float64)
    return (double - double.mean()) / double.std() if np.ptp(double) else np.zeros_like(double)


def right_topics(queries: EmbeddedQueries, topics: Topics) -> list[int]:
    found = []
    for row in range(len(queries)):
        start, end = queries.judgements.indptr[row : row + 2]
        best = start + int(np.argmax(queries.judgements.grades[start:end]))
        found.append(int(topics.assignment[queries.judgements.documents[best]]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("follow", [False, True])
def test_each_mode_is_what_its_name_says(
    worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor, retriever: HybridRetriever, follow: bool
) -> None:
    """Against one question at a time, in plain numpy."""
    queries, documents = worded.splits["test"], worded.vectors.vectors
    assert retriever.lexical is not None
    weight, vectors = predictor.question_map.weight.detach().numpy(), searched(queries)
    alone: dict[str, list[NDArray[np.int64]]] = {mode: [] for mode in STEERING_NAMES}
    ships: dict[str, list[NDArray[np.int64]]] = {mode: [] for mode in STEERING_NAMES}
    routed = route(vectors, worded.vectors, topics, ROUTER)
    hits, sure, first, three, near_first, near_three = [], [], 0, 0, 0, 0
    inside: dict[str, list[float]] = {"zero": [], "oracle": []}
    for row, (question, right) in enumerate(zip(queries.vectors, right_topics(queries, topics), strict=True)):
        order = np.argsort(-routed[row])[:3].tolist()
        near = np.argsort(-(topics.centroids @ question))[:3].tolist()
        first, three = first + (order[0] == right), three + (right in order)
        near_first, near_three = near_first + (near[0] == right), near_three + (right in near)
        hits.append(order[0] == right)
        sure.append(float(routed[row].max()))
        zero = question + weight @ question
        words = WEIGHT * standardised(retriever.lexical.scores([queries.texts[row]])[0])
        picked = {"zero": -1, "predicted": order[0], "one_click": right if right in order else -1, "oracle": right}
        for mode, topic in picked.items():
            difference = topics.centroids[topic] - question
            moved = zero + (topic >= 0) * 0.7 * difference / np.linalg.norm(difference)
            alone[mode].append(np.argsort(-(documents @ moved))[:10])
            asked = moved if follow and topic >= 0 else vectors[row]
            scores = (1 - WEIGHT) * standardised(documents @ asked) + words
            ships[mode].append(np.argsort(-(scores + BONUS * (topics.assignment == topic)))[:10])
            if mode in inside:
                inside[mode].append(float((topics.assignment[ships[mode][-1]] == right).mean()))
    found = steering_modes(queries, vectors, predictor, retriever, topics, ROUTER, BONUS, follow=follow)
    assert list(found.modes) == list(found.search) == list(STEERING_NAMES)
    for mode in STEERING_NAMES:
        assert found.modes[mode] == pytest.approx(evaluate(np.array(alone[mode]), queries.judgements, CUTS))
        assert found.search[mode] == pytest.approx(evaluate(np.array(ships[mode]), queries.judgements, CUTS))
    assert found.inside == pytest.approx({mode: np.mean(shares) for mode, shares in inside.items()})
    assert found.inside["oracle"] > found.inside["zero"]
    assert (found.accuracy_at_1, found.accuracy_at_3) == pytest.approx((first / 24, three / 24))
    assert (found.centroid_accuracy_at_1, found.centroid_accuracy_at_3) == pytest.approx(
        (near_first / 24, near_three / 24)
    )
    assert 0 < first < three < 24
    assert found.calibration_error == pytest.approx(binned_error(hits, sure), abs=1e-6)


def binned_error(hits: list[bool], sure: list[float]) -> float:
    total = 0.0
    for number in range(15):
        rows = [row for row, share in enumerate(sure) if number / 15 <= share < (number + 1) / 15]
        total += abs(sum(hits[row] - sure[row] for row in rows))
    return total / len(hits)


def modes_of(
    queries: EmbeddedQueries, topics: Topics, predictor: JASPERPredictor, retriever: HybridRetriever
) -> SteeringModes:
    return steering_modes(queries, queries.vectors, predictor, retriever, topics, ROUTER, BONUS)


def test_metrics_are_plain_values(
    worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor, retriever: HybridRetriever
) -> None:
    found = modes_of(worded.splits["test"], topics, predictor, retriever).to_metrics()
    assert (found["topics"], found["questions"]) == (6, 24)
    for group in ("modes", "search"):
        assert set(found[group]["oracle"]) == {"ndcg@10", "recall@10", "mrr@10"}
        assert all(type(value) is float for figures in found[group].values() for value in figures.values())
    shares = [found[f"{who}_accuracy@{k}"] for who in ("router", "nearest_centroid") for k in (1, 3)]
    assert all(type(value) is float for value in [*shares, found["router_ece"], *found["inside@10"].values()])
    assert set(found["inside@10"]) == {"zero", "oracle"}


def test_a_predictor_that_cannot_be_steered_gives_four_equal_rows(
    worded: EmbeddedSet, topics: Topics, retriever: HybridRetriever
) -> None:
    """The search still prefers documents of a topic."""
    identity = JASPERPredictor(JASPERPredictorConfig(embedding_dim=8, mlp=False))
    found = modes_of(worded.splits["dev"], topics, identity, retriever)
    assert all(figures == found.modes["zero"] for figures in found.modes.values())
    assert found.search["oracle"]["ndcg@10"] > found.search["zero"]["ndcg@10"]


@pytest.mark.slow
def test_unsteered_it_is_the_search_that_ships(
    worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor, retriever: HybridRetriever
) -> None:
    queries = worded.splits["test"]
    found = modes_of(queries, topics, predictor, retriever)
    rows = retriever.hybrid(queries.vectors, queries.texts, 10)[1]
    assert found.search["zero"] == evaluate(rows, queries.judgements, CUTS)
    wordless = dataclasses.replace(queries, texts=("",) * 24)
    found = modes_of(wordless, topics, predictor, retriever)
    assert found.search["zero"] == evaluate(retriever.dense(queries.vectors, 10)[1], queries.judgements, CUTS)


def test_a_question_without_an_answer_here_is_missed_and_asked_without_a_topic(
    worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor, retriever: HybridRetriever
) -> None:
    queries = worded.splits["test"]
    judgements = Judgements(np.arange(25), np.full(24, -2), np.ones(24, dtype=np.int64))
    found = modes_of(dataclasses.replace(queries, judgements=judgements), topics, predictor, retriever)
    assert (found.accuracy_at_3, found.centroid_accuracy_at_3) == (0, 0)
    assert found.inside == {"zero": 0, "oracle": 0}
    assert found.search["oracle"] == found.search["zero"]
    assert found.modes["one_click"] == found.modes["zero"]
