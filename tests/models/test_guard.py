from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.models.guard import FamiliarityGate, Guard, Vectors, mean_top_cosine, unit

DIM = 8


def rows(count: int, seed: int) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32))


def gate(low: float = 0.35, high: float = 0.6) -> FamiliarityGate:
    return FamiliarityGate(rows(20, 9), low, high, neighbours=3)


def test_familiarity_is_the_mean_of_the_nearest() -> None:
    questions, bank = rows(7, 0), rows(20, 9)
    expected = [np.mean(sorted((float(q @ b) for b in bank), reverse=True)[:3]) for q in questions]
    np.testing.assert_allclose(gate().familiarity(questions), expected, atol=1e-6)
    # Fewer bank questions than neighbours: all of them.
    np.testing.assert_allclose(
        mean_top_cosine(questions, bank[:2], 5), (questions @ bank[:2].T).mean(axis=1), atol=1e-6
    )


def test_gate_is_a_ramp_of_familiarity() -> None:
    questions = np.concatenate([rows(200, 0), rows(20, 9)])
    ramp = gate(0.3, 0.6)
    familiarity, openness = ramp.familiarity(questions), ramp.openness(questions)
    order = np.argsort(familiarity)
    assert (np.diff(openness[order]) >= 0).all()
    assert (openness[familiarity <= 0.3] == 0).all()
    assert (openness[familiarity >= 0.6] == 1).all()
    between = (familiarity > 0.3) & (familiarity < 0.6)
    assert between.sum() > 20
    np.testing.assert_allclose(openness[between], (familiarity[between] - 0.3) / 0.3, atol=1e-5)
    assert openness.dtype == np.float32


def test_blend_is_the_equation() -> None:
    questions, predictions = rows(50, 0), rows(50, 1) * 7
    guard = Guard(0.6, gate())
    openness = gate().openness(questions)
    assert 0 < (openness == 0).sum() < (openness < 1).sum() < 50
    for gated, shares in ((True, 0.6 * openness), (False, np.full(50, 0.6))):
        blended = guard.blend(questions, predictions, gated=gated)
        for row, share in enumerate(shares):
            mixed = (1 - share) * questions[row] + share * predictions[row] / 7
            np.testing.assert_allclose(blended[row], mixed / np.linalg.norm(mixed), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(blended, axis=1), 1, atol=1e-6)
        assert blended.dtype == np.float32
    np.testing.assert_array_equal(
        Guard(0.6).blend(questions, predictions), guard.blend(questions, predictions, gated=False)
    )


def test_alpha_zero_and_a_closed_gate_return_the_very_question() -> None:
    questions, predictions = rows(300, 0), np.full((300, DIM), np.nan, dtype=np.float32)
    np.testing.assert_array_equal(Guard(0.0, gate()).blend(questions, predictions), questions)
    np.testing.assert_array_equal(Guard(1.0, gate(1.1, 1.2)).blend(questions, predictions), questions)


def test_alpha_one_is_the_prediction() -> None:
    questions, predictions = rows(30, 0), rows(30, 1)
    np.testing.assert_allclose(Guard(1.0).blend(questions, predictions * 3), predictions, atol=1e-6)
    np.testing.assert_allclose(Guard(1.0, gate(-2, -1.5)).blend(questions, predictions), predictions, atol=1e-6)


def test_openness_of_the_corpus_scales_the_blend() -> None:
    questions, predictions = rows(40, 0), rows(40, 1)
    guard = Guard(0.6, gate())
    assert guard.over(1.0) == guard
    halved = guard.over(0.5)
    assert (halved.alpha, halved.gate) == (0.3, guard.gate)
    np.testing.assert_array_equal(guard.over(0.0).blend(questions, predictions), questions)
    for openness in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"openness must lie in \[0, 1\]"):
            guard.over(openness)


def test_a_row_of_zeros_has_no_direction() -> None:
    scaled = unit(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    assert scaled.tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))


def test_impossible_guards_are_refused() -> None:
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
            Guard(alpha)
    with pytest.raises(ValueError, match=r"low < high, got 0\.5 and 0\.5"):
        gate(0.5, 0.5)
    with pytest.raises(ValueError, match="got 0 and 5"):
        FamiliarityGate(rows(0, 0), 0.0, 1.0)
    with pytest.raises(ValueError, match="got 3 and 0"):
        FamiliarityGate(rows(3, 0), 0.0, 1.0, neighbours=0)
