from __future__ import annotations

import numpy as np
import pytest
import torch

from jasper_rag.metrics.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood


def sampled(questions: int, temperature: float = 1.0, count: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits z, and classes drawn from softmax(z / T)."""
    generator = np.random.default_rng(seed)
    logits = (2 * generator.standard_normal((questions, count))).astype(np.float32)
    # The highest of logits with Gumbel noise is a draw from their softmax.
    right = (logits / temperature + generator.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, right


def probabilities(logits: np.ndarray) -> np.ndarray:
    shares: np.ndarray = torch.softmax(torch.tensor(logits), dim=1).numpy()
    return shares


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("missed", [0, 40])
def test_the_error_is_that_of_its_bins(bins: int, missed: int) -> None:
    logits, right = sampled(300, 3.0)
    right[:missed] = -1
    shares = probabilities(logits)
    shares[0] = [0, 0, 0, 0, 1]  # its own bin's upper edge
    expected, seen = 0.0, 0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [row for row, each in enumerate(shares) if low <= each.max() < high or (each.max() == 1 and high == 1)]
        seen += len(inside)
        if inside:
            accuracy = sum(int(shares[row].argmax() == right[row]) for row in inside) / len(inside)
            confidence = sum(float(shares[row].max()) for row in inside) / len(inside)
            expected += len(inside) / 300 * abs(accuracy - confidence)
    assert seen == 300
    assert expected_calibration_error(shares, right, bins) == pytest.approx(expected, abs=1e-9)


def test_what_is_sure_and_right_has_no_error() -> None:
    right = np.array([2, 0, 1, 1])
    sure = np.eye(3, dtype=np.float32)[right]
    assert expected_calibration_error(sure, right) == 0
    assert expected_calibration_error(sure, (right + 1) % 3) == 1
    half = np.array([[0.5, 0.5, 0]] * 4, dtype=np.float32)
    assert expected_calibration_error(half, np.array([0, 1, 1, 0])) == 0
    assert expected_calibration_error(half, np.array([0, 7, -1, 0])) == 0


def test_classes_drawn_from_the_probabilities_have_next_to_none() -> None:
    logits, right = sampled(20_000)
    assert expected_calibration_error(probabilities(logits), right) < 0.015
    assert expected_calibration_error(probabilities(3 * logits), right) > 0.1


def test_the_likelihood_is_torchs() -> None:
    logits, right = sampled(50, seed=4)
    for scale in (1, 100):
        expected = torch.nn.functional.cross_entropy(torch.tensor(scale * logits).double(), torch.tensor(right))
        assert negative_log_likelihood(scale * logits, right) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, right = sampled(20_000, temperature)
    assert fit_temperature(logits, right) == pytest.approx(temperature, rel=0.05)


@pytest.mark.slow
def test_few_rows_draw_the_temperature_towards_1() -> None:
    logits, right = sampled(60, 4.0, seed=2)
    free = fit_temperature(logits, right, caution=0)
    assert free > 1.5
    grid = np.geomspace(0.1, 10, 2001)
    losses = [float(torch.nn.functional.cross_entropy(torch.tensor(logits / t), torch.tensor(right))) for t in grid]
    assert free == pytest.approx(grid[np.argmin(losses)], rel=0.025)
    assert fit_temperature(logits, right, caution=60) == pytest.approx(free**0.5)
    assert 1 < fit_temperature(logits, right, caution=100_000) < 1.01


@pytest.mark.parametrize("measure", [expected_calibration_error, negative_log_likelihood, fit_temperature])
@pytest.mark.parametrize(("rows", "classes"), [((0, 3), (0,)), ((2, 3), (3,)), ((6,), (6,)), ((2, 3), (2, 1))])
def test_one_class_for_each_row(measure: object, rows: tuple[int, ...], classes: tuple[int, ...]) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="one class for each of at least one row"):
        measure(np.ones(rows, dtype=np.float32), np.zeros(classes, dtype=np.int64))
