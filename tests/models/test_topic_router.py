from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from jasper_rag.models.guard import Vectors, unit
from jasper_rag.models.topic_router import (
    Routing,
    TopicRouter,
    atypicality_quantile,
    relative_atypicality,
    softmax,
)

COUNT, DOCUMENTS = 5, 40
ASSIGNMENT = np.random.default_rng(9).integers(COUNT - 1, size=DOCUMENTS)  # the last topic has no document


def ranked(questions: int = 7, best: int = 12, seed: int = 0) -> tuple[Vectors, np.ndarray]:
    """Scores, descending, and rows, each once."""
    generator = np.random.default_rng(seed)
    scores = -np.sort(-generator.uniform(0.2, 0.6, size=(questions, best)), axis=1)
    rows = np.stack([generator.permutation(DOCUMENTS)[:best] for _ in range(questions)])
    return scores.astype(np.float32), rows.astype(np.int64)


@pytest.mark.parametrize("router", [TopicRouter(), TopicRouter(0.1, 1.7, 0.02)])
def test_a_topic_is_as_likely_as_its_documents(router: TopicRouter) -> None:
    """Document by document, question by question."""
    scores, rows = ranked()
    rows[2, 9:] = -1
    logs = router.log_mass(scores, rows, ASSIGNMENT, COUNT)
    weights = router.probabilities(scores, rows, ASSIGNMENT, COUNT)
    assert logs.dtype == weights.dtype == np.float32
    for question in range(len(rows)):
        found = [
            (math.exp(float(score) / router.temperature), int(row))
            for score, row in zip(scores[question], rows[question], strict=True)
            if row >= 0
        ]
        total = sum(power for power, _ in found)
        mass = [sum(power for power, row in found if ASSIGNMENT[row] == topic) / total for topic in range(COUNT)]
        np.testing.assert_allclose(logs[question], np.log(np.array(mass) + router.floor), atol=1e-5)
        shares = (np.array(mass) + router.floor) ** (1 / router.calibration)
        np.testing.assert_allclose(weights[question], shares / shares.sum(), atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(logs[:, -1], math.log(router.floor), atol=1e-5)


def test_rows_that_are_none_count_for_nothing() -> None:
    """Whatever score stands beside them, not even NaN."""
    scores, rows = ranked(3)
    full = np.concatenate([scores, np.full((3, 4), np.nan, dtype=np.float32)], axis=1)
    filled = np.concatenate([rows, np.full((3, 4), -1)], axis=1)
    router = TopicRouter()
    np.testing.assert_array_equal(
        router.log_mass(full, filled, ASSIGNMENT, COUNT), router.log_mass(scores, rows, ASSIGNMENT, COUNT)
    )


def test_a_question_that_finds_nothing_knows_no_topic() -> None:
    scores, rows = ranked(2)
    rows[0] = -1
    weights = TopicRouter().probabilities(scores, rows, ASSIGNMENT, COUNT)
    np.testing.assert_allclose(weights[0], 1 / COUNT, atol=1e-6)
    assert weights[1].max() > 2 / COUNT
    none = TopicRouter().probabilities(scores[:, :0], rows[:, :0], ASSIGNMENT, COUNT)
    np.testing.assert_allclose(none, 1 / COUNT, atol=1e-6)
    assert TopicRouter().probabilities(scores[:0], rows[:0], ASSIGNMENT, COUNT).shape == (0, COUNT)


def test_scores_of_any_height_are_fine() -> None:
    scores, rows = ranked()
    low, high = (TopicRouter().log_mass(scores + shift, rows, ASSIGNMENT, COUNT) for shift in (-500, 500))
    assert np.isfinite(low).all()
    np.testing.assert_allclose(low, high, atol=0.05)  # float32 keeps fewer digits of 500.3


def test_calibration_above_1_is_less_sure() -> None:
    scores, rows = ranked()
    sure, as_it_is, unsure = (
        TopicRouter(0.03, calibration).probabilities(scores, rows, ASSIGNMENT, COUNT) for calibration in (0.5, 1, 2)
    )
    assert (sure.max(axis=1) > as_it_is.max(axis=1)).all()
    assert (as_it_is.max(axis=1) > unsure.max(axis=1)).all()
    np.testing.assert_array_equal(sure.argmax(axis=1), unsure.argmax(axis=1))


@pytest.mark.parametrize("name", ["temperature", "calibration", "floor"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_numbers_must_be_above_0(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        TopicRouter(**{name: value})


def test_routing_survives_json() -> None:
    routing = Routing(TopicRouter(0.05, 1.25, 0.002), 1.5, np.array([0.5, 1.0], dtype=np.float32), True)
    numbers = json.loads(json.dumps(routing.to_json()))
    assert numbers == {"temperature": 0.05, "calibration": 1.25, "floor": 0.002, "bonus": 1.5, "follow": True}
    read = Routing.from_json(numbers, routing.usual)
    assert (read.router, read.bonus, read.follow) == (routing.router, 1.5, True)
    assert read.usual is routing.usual
    assert len(Routing().usual) == 0
    with pytest.raises(KeyError):
        Routing.from_json({"bonus": 1.0}, routing.usual)


def test_softmax_is_torchs() -> None:
    logits = (np.random.default_rng(0).standard_normal((4, 3, 6)) * 200).astype(np.float32)
    np.testing.assert_allclose(softmax(logits), torch.softmax(torch.tensor(logits), dim=-1).numpy(), atol=1e-6)


def test_atypicality_compares_the_fine_part_with_the_coarse() -> None:
    generator = np.random.default_rng(2)
    searched, centroids = (unit(generator.standard_normal((n, 8)).astype(np.float32)) for n in (6, COUNT))
    routing = softmax(generator.standard_normal((6, COUNT)).astype(np.float32))
    expected = []
    for question, weights in zip(searched, routing, strict=True):
        coarse = sum(float(weight) * centroid for weight, centroid in zip(weights, centroids, strict=True))
        expected.append(math.dist(question, coarse) / math.hypot(*coarse))
    np.testing.assert_allclose(relative_atypicality(searched, routing, centroids), expected, rtol=1e-5)
    sure = np.eye(COUNT, dtype=np.float32)
    np.testing.assert_allclose(relative_atypicality(centroids, sure, centroids), 0, atol=1e-6)
    opposed = np.stack([centroids[0], -centroids[0]])
    assert np.isfinite(relative_atypicality(searched[:1], np.full((1, 2), 0.5, dtype=np.float32), opposed)).all()


def test_the_quantile_is_the_share_of_usual_questions_below() -> None:
    sample = np.random.default_rng(3).gamma(4.0, size=2000).astype(np.float32)
    usual = np.quantile(sample, np.linspace(0, 1, 257)).astype(np.float32)
    values = np.linspace(0, 12, 50, dtype=np.float32)
    found = atypicality_quantile(values, usual)
    expected = [(sample < value).mean() for value in values]
    np.testing.assert_allclose(found, expected, atol=0.005)
    assert (np.diff(found) >= 0).all()
    assert atypicality_quantile(np.array([-1.0, 99.0], dtype=np.float32), usual).tolist() == [0.0, 1.0]


def test_without_usual_questions_there_is_no_quantile() -> None:
    with pytest.raises(ValueError, match="`usual` is empty"):
        atypicality_quantile(np.ones(3, dtype=np.float32), Routing().usual)
