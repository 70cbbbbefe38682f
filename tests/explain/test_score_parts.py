from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jasper_rag.explain.score_parts import ScoreParts, blend_scalars, dense_parts, hybrid_parts
from jasper_rag.models.guard import FamiliarityGate, Guard, Vectors, unit
from jasper_rag.models.subspace_predictor import PredictionParts, SubspacePredictor
from jasper_rag.retrieval.fusion import weighted

DIM, COUNT, ASKED, CORPUS, HITS = 6, 4, 5, 50, 3
GENERATOR = np.random.default_rng(11)


def unit_rows(count: int) -> Vectors:
    return unit(GENERATOR.standard_normal((count, DIM)).astype(np.float32))


QUESTIONS, STEERING, DOCUMENTS, CENTROIDS = unit_rows(ASKED), unit_rows(ASKED), unit_rows(CORPUS), unit_rows(COUNT)
ROWS = GENERATOR.integers(CORPUS, size=(ASKED, HITS))
WORDS = GENERATOR.random((ASKED, CORPUS)).astype(np.float32) * 20


def predicted(**changes: Any) -> tuple[PredictionParts, Vectors]:
    sizes = {"embedding_dim": DIM, "hidden_dim": 8, "num_subspaces": COUNT, "router_hidden_dim": 7}
    model = SubspacePredictor({**sizes, **changes}, torch.from_numpy(CENTROIDS))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    asked, steering = torch.from_numpy(QUESTIONS), torch.from_numpy(STEERING)
    with torch.no_grad():
        return model.parts(asked, steering), model.eval()(asked, steering).numpy()


GATE = FamiliarityGate(unit_rows(20), 0.2, 0.9)
VARIANTS: list[dict[str, Any]] = [{}, {"residual": False}, {"normalize_output": True}]


@pytest.mark.parametrize("guard", [Guard(0.0), Guard(0.4), Guard(1.0), Guard(0.7, GATE)])
def test_scalars_make_what_the_guard_ships(guard: Guard) -> None:
    predictions = predicted()[1]
    for gated in (True, False):
        a, b = blend_scalars(guard, QUESTIONS, predictions, gated=gated)
        expected = guard.blend(QUESTIONS, predictions, gated=gated)
        np.testing.assert_allclose(a[:, None] * QUESTIONS + b[:, None] * predictions, expected, atol=1e-6)


@pytest.mark.parametrize("changes", VARIANTS)
def test_parts_sum_to_the_score(changes: dict[str, Any]) -> None:
    parts, predictions = predicted(**changes)
    a, b = blend_scalars(Guard(0.6, GATE), QUESTIONS, predictions)
    searched = Guard(0.6, GATE).blend(QUESTIONS, predictions)
    found = dense_parts(QUESTIONS, a, b, parts, DOCUMENTS[ROWS])
    np.testing.assert_allclose(found.total, np.take_along_axis(searched @ DOCUMENTS.T, ROWS, axis=1), atol=1e-5)
    assert not found.words.any()
    assert not found.level.any()


def test_parts_are_those_of_the_formula() -> None:
    parts, _ = predicted()
    a, b = np.full(ASKED, 0.3), np.full(ASKED, 0.8)
    found = dense_parts(QUESTIONS, a, b, parts, DOCUMENTS[ROWS])
    coarse = parts.coarse.numpy()
    for name, direction in {
        "question": 1.1 * (QUESTIONS - coarse),
        "coarse": 1.1 * coarse,
        "fine": 0.8 * parts.fine.numpy(),
        "steering": 0.8 * parts.steering.numpy(),
    }.items():
        expected = np.einsum("qkd,qd->qk", DOCUMENTS[ROWS], direction)
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-6)
        assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_hybrid_parts_sum_to_the_fused_score(weight: float) -> None:
    dense, found = hybrid(DOCUMENTS, WORDS, weight)
    expected = np.take_along_axis(weighted(dense, WORDS, weight), ROWS, axis=1)
    np.testing.assert_allclose(found.total, expected, atol=1e-5)
    assert (np.ptp(found.level, axis=1) == 0).all()


def hybrid(documents: Vectors, words: NDArray[np.float32], weight: float) -> tuple[NDArray[np.float32], ScoreParts]:
    parts, predictions = predicted()
    a, b = blend_scalars(Guard(0.6), QUESTIONS, predictions)
    dense = Guard(0.6).blend(QUESTIONS, predictions) @ documents.T
    return dense, hybrid_parts(dense_parts(QUESTIONS, a, b, parts, documents[ROWS]), dense, words, ROWS, weight)


def test_scores_that_are_all_equal_say_nothing() -> None:
    same = np.repeat(DOCUMENTS[:1], CORPUS, axis=0)
    parts, predictions = predicted()
    a, b = blend_scalars(Guard(0.6), QUESTIONS, predictions)
    dense = np.repeat(Guard(0.6).blend(QUESTIONS, predictions) @ same[:1].T, CORPUS, axis=1)
    constant = np.ones_like(WORDS)
    found = hybrid_parts(dense_parts(QUESTIONS, a, b, parts, same[ROWS]), dense, constant, ROWS, 0.25)
    assert not weighted(dense, constant, 0.25).any()
    assert not found.total.any()


def test_what_does_not_fit_is_refused() -> None:
    parts, _ = predicted()
    ones, hits = np.ones(ASKED), DOCUMENTS[ROWS]
    with pytest.raises(ValueError, match=r"a \[4\]"):
        dense_parts(QUESTIONS, ones[:4], ones, parts, hits)
    with pytest.raises(ValueError, match=r"hits \[5, 6\]"):
        dense_parts(QUESTIONS, ones, ones, parts, hits[:, 0])
    with pytest.raises(ValueError, match=r"hits \[5, 3, 4\]"):
        dense_parts(QUESTIONS, ones, ones, parts, hits[:, :, :4])
    dense = dense_parts(QUESTIONS, ones, ones, parts, hits)
    with pytest.raises(ValueError, match=r"lexical \[5, 49\]"):
        hybrid_parts(dense, WORDS, WORDS[:, 1:], ROWS, 0.5)
    with pytest.raises(ValueError, match=r"rows \[5, 2\]"):
        hybrid_parts(dense, WORDS, WORDS, ROWS[:, :2], 0.5)
    with pytest.raises(ValueError, match=r"must point into scores \[5, 50\]"):
        hybrid_parts(dense, WORDS, WORDS, ROWS - CORPUS, 0.5)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        hybrid_parts(dense, WORDS, WORDS, ROWS, 1.5)
