from __future__ import annotations

import numpy as np
import pytest
import torch

from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.evaluation.steering_modes import steering_modes
from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.metrics.ranking import evaluate
from jasper_rag.models.guard import unit
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.topics import Topics

CUTS = {"ndcg": (10,), "recall": (10,), "mrr": (10,)}


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


def test_each_mode_is_what_its_name_says(worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor) -> None:
    """Against one question at a time, in plain numpy."""
    queries, documents = worded.splits["test"], worded.vectors
    weight = predictor.question_map.weight.detach().numpy()
    ranked: dict[str, list[np.ndarray]] = {mode: [] for mode in STEERING_NAMES}
    first, three = 0, 0
    for row, question in enumerate(queries.vectors):
        start, end = queries.judgements.indptr[row : row + 2]
        best = start + int(np.argmax(queries.judgements.grades[start:end]))
        right = int(topics.assignment[queries.judgements.documents[best]])
        zero = question + weight @ question
        order = np.argsort(-(topics.centroids @ zero))[:3].tolist()
        first, three = first + (order[0] == right), three + (right in order)

        def steered(topic: int, question: np.ndarray = question, zero: np.ndarray = zero) -> np.ndarray:
            difference = topics.centroids[topic] - question
            moved: np.ndarray = zero + 0.7 * difference / np.linalg.norm(difference)
            return moved

        asked = {
            "zero": zero,
            "predicted": steered(order[0]),
            "one_click": steered(right) if right in order else zero,
            "oracle": steered(right),
        }
        for mode, vector in asked.items():
            ranked[mode].append(np.argsort(-(documents.vectors @ vector))[:10])
    found = steering_modes(queries, documents, predictor, topics)
    assert list(found.modes) == list(STEERING_NAMES)
    for mode, rows in ranked.items():
        assert found.modes[mode] == pytest.approx(evaluate(np.array(rows), queries.judgements, CUTS))
    assert found.accuracy_at_1 == pytest.approx(first / 24)
    assert found.accuracy_at_3 == pytest.approx(three / 24)
    assert 0 < first < three < 24


def test_metrics_are_plain_values(worded: EmbeddedSet, topics: Topics, predictor: JASPERPredictor) -> None:
    found = steering_modes(worded.splits["test"], worded.vectors, predictor, topics).to_metrics()
    assert (found["topics"], found["questions"]) == (6, 24)
    assert set(found["modes"]["oracle"]) == {"ndcg@10", "recall@10", "mrr@10"}
    assert all(type(value) is float for figures in found["modes"].values() for value in figures.values())


def test_a_predictor_that_cannot_be_steered_gives_four_equal_rows(worded: EmbeddedSet, topics: Topics) -> None:
    identity = JASPERPredictor(JASPERPredictorConfig(embedding_dim=8, mlp=False))
    modes = steering_modes(worded.splits["dev"], worded.vectors, identity, topics).modes
    assert all(figures == modes["zero"] for figures in modes.values())
