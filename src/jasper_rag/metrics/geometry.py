"""How embeddings lie in their space: spread over directions, hubs, distances. One function, one equation.

Vectors are [n, d], of any length; every figure is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.metrics.topk import top_k

Matrix = NDArray[np.float64]

_BLOCK = 1024
"""Rows whose distances to all others are held at a time."""


def isotropy_score(vectors: NDArray[Any], *, centred: bool = False) -> float:
    """Share of the dimensions in use, in [0, 1]: (PR - 1) / (d - 1) with the participation ratio PR.

        PR = (tr M)^2 / tr(M^2),   M = E[x x^T]

    1 for an isotropic law, 0 where all vectors lie on one line, a collapsed batch included, since M is taken about the
    origin as cosines are. Both traces are estimated without bias from pairs of different rows, for
    E[|x_i|^2 |x_j|^2] = (tr M)^2 and E[(x_i . x_j)^2] = tr(M^2): unlike anything computed from the sample's
    eigenvalues, the score hardly depends on n, also where n < d. For unit rows PR is 1 / mean_{i != j} cos^2.
    The rescaling to [0, 1] is IsoScore's (arXiv:2108.07344).

    Args:
        vectors: [n, d], n of at least 2 (4 if centred), d of at least 2.
        centred: About the mean, M the covariance: blind to a common direction, and so to a collapse. tr(M^2) is then
            estimated as by Himeno and Yamada (2014), (tr M)^2 by subtracting the variance of a normal sample's.

    Raises:
        ValueError: Too few rows or dimensions.
    """
    rows = _matrix(vectors, 4 if centred else 2)
    width = rows.shape[1]
    if width < 2:
        raise ValueError("isotropy needs vectors of at least 2 dimensions, got 1.")
    squared_trace, trace_of_square = _centred_traces(rows) if centred else _traces(rows)
    if trace_of_square <= 0 or squared_trace <= 0:
        # All zero or all equal; or so few rows that not one pair has anything in common.
        return 1.0 if squared_trace > 0 else 0.0
    return float(np.clip((squared_trace / trace_of_square - 1) / (width - 1), 0.0, 1.0))


def effective_rank(vectors: NDArray[Any]) -> float:
    """Entropy's exp(-sum_k p_k log p_k), p_k = s_k / sum s, s the singular values (Roy and Vetterli 2007); not centred.

    Between 1 and min(n, d); below about 10 d rows it says as much of n as of the vectors. 0 for vectors of zero.

    Raises:
        ValueError: Without a row.
    """
    rows = _matrix(vectors, 1)
    # Of the smaller of X^T X and X X^T, whose eigenvalues are the squares of the singular values.
    products = rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T
    values = np.sqrt(np.clip(np.linalg.eigvalsh(products), 0.0, None))
    # The root of a rounding error is no longer small: what is below it is taken for 0.
    values = values[values > values.max() * 1e-7]
    shares = values / values.sum() if len(values) else values
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def uniformity(vectors: NDArray[Any], t: float = 2.0) -> float:
    """Log mean_{i < j} exp(-t |u_i - u_j|^2) of unit rows u (Wang and Isola, arXiv:2005.10242); lower is more uniform.

    0 for a collapsed batch, about -2 t for isotropic vectors of many dimensions.

    Raises:
        ValueError: Fewer than two rows, or one of zero.
    """
    unit = _unit(_matrix(vectors, 2))
    count, total = len(unit), 0.0
    for start in range(0, count, _BLOCK):
        block = unit[start : start + _BLOCK]
        # |u - v|^2 = 2 - 2 cos.
        total += float(np.exp(-2.0 * t * (1.0 - np.clip(block @ unit.T, -1.0, 1.0))).sum())
    return float(np.log((total - count) / (count * (count - 1))))


def alignment(queries: NDArray[Any], positives: NDArray[Any], alpha: float = 2.0) -> float:
    """Mean_i |u_i - v_i|^alpha of unit rows u, v of pairs (Wang and Isola, arXiv:2005.10242); 0 where they coincide.

    Raises:
        ValueError: The shapes differ, or a row is zero.
    """
    first, second = _pairs(queries, positives)
    return float((np.linalg.norm(_unit(first) - _unit(second), axis=1) ** alpha).mean())


def hubness(queries: NDArray[Any], documents: NDArray[Any], k: int = 10) -> float:
    """Skewness of how often each document is among the k nearest of a query (Radovanovic et al. 2010, JMLR 11).

        N_j = number of queries with j among their k nearest,   mean (N - mean N)^3 / std(N)^3

    0 where all documents are found equally often; large where a few hubs are found by everyone. Nearest by L2.

    Raises:
        ValueError: `k` is not between 1 and the number of documents, or shapes do not fit.
    """
    asked, corpus = _matrix(queries, 1), _matrix(documents, 1)
    if not 1 <= k <= len(corpus):
        raise ValueError(f"k must be between 1 and the {len(corpus)} documents, got {k}.")
    # -|q - c|^2 / 2 = q . c - |c|^2 / 2 up to a constant of the query: an inner product with one coordinate more.
    longer = np.hstack([corpus, -0.5 * (corpus**2).sum(axis=1, keepdims=True)])
    _, rows = top_k(np.hstack([asked, np.ones((len(asked), 1))]), longer, k)
    return occurrence_skewness(rows, len(corpus))


def occurrence_skewness(rows: NDArray[np.integer], documents: int) -> float:
    """Skewness of how often each of `documents` rows occurs in the result lists `rows` [Q, k]; 0 if equally often."""
    counts = np.bincount(np.asarray(rows).ravel(), minlength=documents).astype(np.float64)
    gaps = counts - counts.mean()
    deviation = np.sqrt((gaps**2).mean())
    return float((gaps**3).mean() / deviation**3) if deviation > 0 else 0.0


def mean_cosine(vectors: NDArray[Any]) -> float:
    """Mean cosine of pairs of different rows, (|sum u|^2 - n) / (n (n - 1)); 0 if isotropic, 1 if collapsed.

    Raises:
        ValueError: Fewer than two rows, or one of zero.
    """
    unit = _unit(_matrix(vectors, 2))
    count = len(unit)
    return float(((unit.sum(axis=0) ** 2).sum() - count) / (count * (count - 1)))


def embedding_std(vectors: NDArray[Any]) -> float:
    """Standard deviation over all entries, n - 1 below; about 1 for an isotropic Gaussian.

    Raises:
        ValueError: Fewer than two entries.
    """
    rows = _matrix(vectors, 1)
    if rows.size < 2:
        raise ValueError("a standard deviation needs two entries, got 1.")
    return float(rows.std(ddof=1))


def mean_positive_distance(queries: NDArray[Any], positives: NDArray[Any]) -> float:
    """Mean_i |q_i - p_i|, L2, of the rows as they are.

    Raises:
        ValueError: The shapes differ.
    """
    first, second = _pairs(queries, positives)
    return float(np.linalg.norm(first - second, axis=1).mean())


def _traces(rows: Matrix) -> tuple[float, float]:
    """Unbiased (tr M)^2 and tr(M^2), M about the origin."""
    lengths = (rows**2).sum(axis=1)
    pairs = len(rows) * (len(rows) - 1)
    fourth = float((lengths**2).sum())
    return (float(lengths.sum()) ** 2 - fourth) / pairs, (_square_sum(rows) - fourth) / pairs


def _centred_traces(rows: Matrix) -> tuple[float, float]:
    count = len(rows)
    centred = rows - rows.mean(axis=0)
    lengths = (centred**2).sum(axis=1)
    trace = float(lengths.sum()) / (count - 1)
    squares = _square_sum(centred) / (count - 1) ** 2
    kurtosis = float((lengths**2).sum()) / (count - 1)
    factor = (count - 1) / (count * (count - 2) * (count - 3))
    of_square = factor * ((count - 1) * (count - 2) * squares + trace**2 - count * kurtosis)
    # Of a normal sample, Var(tr S) = 2 tr(M^2) / (n - 1).
    return trace**2 - 2 * of_square / (count - 1), of_square


def _square_sum(rows: Matrix) -> float:
    """sum_ij (x_i . x_j)^2, from the smaller of X^T X and X X^T."""
    products = rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T
    return float((products**2).sum())


def _matrix(vectors: NDArray[Any], fewest: int) -> Matrix:
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < fewest or rows.shape[1] == 0:
        raise ValueError(f"expected vectors [n, d] with n of at least {fewest}, got {list(rows.shape)}.")
    return rows


def _pairs(queries: NDArray[Any], positives: NDArray[Any]) -> tuple[Matrix, Matrix]:
    first, second = _matrix(queries, 1), _matrix(positives, 1)
    if first.shape != second.shape:
        raise ValueError(f"queries {list(first.shape)} for positives {list(second.shape)}.")
    return first, second


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"row {int(np.flatnonzero(lengths == 0)[0])} is zero; it has no direction.")
    return np.asarray(rows / lengths)
