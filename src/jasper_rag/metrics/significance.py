"""Is a difference more than chance? A bootstrap interval for a mean, a randomisation test for a paired difference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_CELLS = 2_000_000
"""Numbers drawn at a time: the memory limit of both resampling loops."""


def bootstrap_interval(
    values: FloatArray, seed: int | np.random.Generator, n: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over queries (Efron 1979).

    Args:
        values: float64 [Q], one metric value per query.
        seed: Seed or generator of the resamples.
        n: Number of resamples.
        level: Coverage, in (0, 1).

    Returns:
        Lower and upper bound: the (1 - level) / 2 and (1 + level) / 2 quantiles of the resampled means.

    Raises:
        ValueError: For no values, values that are not finite, n < 1 or a level out of range.
    """
    values = _checked(values, n)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1), got {level}.")
    generator = np.random.default_rng(seed)
    draws = (generator.integers(len(values), size=(size, len(values))) for size in _parts(n, len(values)))
    means = np.concatenate([values[drawn].mean(axis=1) for drawn in draws])
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def paired_randomisation(a: FloatArray, b: FloatArray, seed: int | np.random.Generator, n: int = 10_000) -> float:
    """Two-sided p-value of Fisher's randomisation test for the mean difference of two systems on the same queries.

    Under the null hypothesis the two values of a query could be exchanged, so each difference flips its sign at random:

        p = (1 + #{|sum_i s_i (a_i - b_i)| >= |sum_i (a_i - b_i)|}) / (1 + n),   s_i = +-1

    Smucker, Allan and Carterette 2007; the 1 counts the observed labelling. Equal systems give 1.

    Args:
        a: float64 [Q], values of one system.
        b: float64 [Q], values of the other, same queries in the same order.
        seed: Seed or generator of the sign flips.
        n: Number of random labellings; no p-value is below 1 / (1 + n).

    Raises:
        ValueError: For no values, different lengths, values that are not finite, or n < 1.
    """
    a, b = _checked(a, n), _checked(b, n)
    if len(a) != len(b):
        raise ValueError(f"need the same queries, got {len(a)} and {len(b)} values.")
    difference = a - b
    # A query on which both systems agree adds nothing, whatever its sign.
    difference = difference[difference != 0]
    observed = abs(difference.sum())
    # Metrics take few values, so exact ties are common; rounding must not decide them.
    limit = observed - 1e-12 * np.abs(difference).sum()
    generator = np.random.default_rng(seed)
    as_extreme = 0
    for size in _parts(n, len(difference)):
        flips = generator.integers(2, size=(size, len(difference)), dtype=np.int8)
        as_extreme += int((np.abs(difference.sum() - 2.0 * (flips @ difference)) >= limit).sum())
    return (1 + as_extreme) / (1 + n)


def _checked(values: FloatArray, n: int) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"need finite values [Q] with Q >= 1, got shape {list(values.shape)}.")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    return values


def _parts(n: int, width: int) -> Iterator[int]:
    """Split n resamples of `width` numbers into parts of at most `_CELLS` numbers."""
    size = max(1, _CELLS // max(1, width))
    for start in range(0, n, size):
        yield min(size, n - start)
