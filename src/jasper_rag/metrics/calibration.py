"""Whether probabilities mean what they say: calibration error, log-likelihood, and the temperature that mends it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jasper_rag.metrics.judgements import IntArray

BINS = 15
"""Of the calibration error, as in its source."""

_TEMPERATURES = np.geomspace(0.1, 10.0, 201)


def expected_calibration_error(probabilities: NDArray[np.float32], right: IntArray, bins: int = BINS) -> float:
    """ECE = sum over bins b of |B_b| / Q * | accuracy(B_b) - confidence(B_b) |   (Guo et al. 2017, arXiv 1706.04599).

    Args:
        probabilities: [Q, K], rows summing to 1; the highest of a row is its confidence.
        right: int64 [Q], the true class of each row; one outside 0 to K - 1 counts as missed.
        bins: Equal widths of confidence.

    Raises:
        ValueError: There is no row, or not one class for each.
    """
    _check(probabilities, right)
    confidence = probabilities.max(axis=1).astype(np.float64)
    hit = probabilities.argmax(axis=1) == right
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=hit - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def negative_log_likelihood(logits: NDArray[np.float32], right: IntArray) -> float:
    """Mean of -log softmax(z)[right] in nats.

    Args:
        logits: z [Q, K].
        right: int64 [Q], 0 to K - 1.

    Raises:
        ValueError: There is no row, or not one class for each, or one out of range.
    """
    _check(logits, right)
    if not 0 <= right.min() <= right.max() < logits.shape[1]:
        raise ValueError(f"classes from {right.min()} to {right.max()} of {logits.shape[1]}.")
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, right[:, np.newaxis], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - chosen).mean())


def fit_temperature(logits: NDArray[np.float32], right: IntArray, caution: int = 30) -> float:
    """T of softmax(z / T) with the least negative log-likelihood, drawn towards 1 the fewer rows there are.

        log T = Q / (Q + caution) log T*

    Args:
        logits: z [Q, K].
        right: int64 [Q], 0 to K - 1.
        caution: Rows that T = 1 counts as.

    Raises:
        ValueError: There is no row, or not one class for each.
    """
    losses = [
        negative_log_likelihood((logits / temperature).astype(np.float32), right) for temperature in _TEMPERATURES
    ]
    best = float(_TEMPERATURES[int(np.argmin(losses))])
    return float(best ** (len(right) / (len(right) + caution)))


def _check(rows: NDArray[np.float32], right: IntArray) -> None:
    if rows.ndim != 2 or not len(rows) or right.shape != rows.shape[:1]:
        raise ValueError(f"need one class for each of at least one row, got {right.shape} for {rows.shape}.")
