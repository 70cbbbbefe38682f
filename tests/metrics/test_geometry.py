from __future__ import annotations

import itertools

import numpy as np
import pytest

from jasper_rag.metrics.geometry import (
    Matrix,
    _centred_traces,
    alignment,
    effective_rank,
    embedding_std,
    hubness,
    isotropy_score,
    mean_cosine,
    mean_positive_distance,
    occurrence_skewness,
    uniformity,
)
from jasper_rag.metrics.topk import top_k


def gaussian(rows: int, dim: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).standard_normal((rows, dim))


def collapsed(rows: int, dim: int) -> Matrix:
    return np.ones(dim) + 0.01 * gaussian(rows, dim)


def unit(rows: Matrix) -> Matrix:
    normalised: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


def test_isotropy_of_unit_rows_is_that_of_the_mean_squared_cosine() -> None:
    rows = unit(gaussian(9, 5) + 0.4)
    squares = [float(rows[i] @ rows[j]) ** 2 for i, j in itertools.permutations(range(9), 2)]
    assert isotropy_score(rows) == pytest.approx((1 / np.mean(squares) - 1) / 4)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("count", [24, 60, 500])
def test_isotropy_hardly_depends_on_the_number_of_rows(count: int, centred: bool) -> None:
    # Participation ratio of the spectrum 1/k over 64 dimensions.
    spectrum = 1 / np.arange(1, 65)
    expected = (spectrum.sum() ** 2 / (spectrum**2).sum() - 1) / 63
    scores = [isotropy_score(gaussian(count, 64, seed) * spectrum**0.5, centred=centred) for seed in range(15)]
    assert np.mean(scores) == pytest.approx(expected, rel=0.15)
    # Eigenvalues of the sample would say .2 for 24 isotropic rows.
    isotropic = [isotropy_score(gaussian(count, 64, seed), centred=centred) for seed in range(15)]
    assert np.mean(isotropic) > 0.9


@pytest.mark.slow
def test_the_centred_traces_are_unbiased() -> None:
    spectrum = np.array([1.5, 1.0, 0.8, 0.7])
    rows = np.random.default_rng(0).standard_normal((5000, 8, 4)) * spectrum**0.5 + 7
    found = np.mean([_centred_traces(batch) for batch in rows], axis=0)
    assert found == pytest.approx([spectrum.sum() ** 2, (spectrum**2).sum()], rel=0.03)


def test_a_collapsed_batch_scores_far_worse_than_a_healthy_one() -> None:
    healthy, dead = gaussian(200, 64), collapsed(200, 64)
    assert isotropy_score(healthy) > 0.9
    assert isotropy_score(dead) < 0.001
    assert effective_rank(healthy) > 10 * effective_rank(dead)
    assert uniformity(healthy) < -3
    assert uniformity(dead) > -0.01
    assert mean_cosine(healthy) == pytest.approx(0, abs=0.02)
    assert mean_cosine(dead) > 0.99
    assert embedding_std(dead) < 0.1 < embedding_std(healthy)


def test_isotropy_is_the_same_at_any_scale_and_in_any_basis() -> None:
    rows = gaussian(50, 8) * np.linspace(0.1, 2, 8) + 0.2
    rotation = np.linalg.qr(gaussian(8, 8, 1))[0]
    assert isotropy_score(1e-3 * rows @ rotation) == pytest.approx(isotropy_score(rows))


def test_isotropy_at_the_edges() -> None:
    assert isotropy_score(np.zeros((4, 3))) == 0
    assert isotropy_score(np.ones((4, 3))) == 0
    assert isotropy_score(np.ones((5, 3)), centred=True) == 0
    assert isotropy_score(np.eye(3)) == 1
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        isotropy_score(np.ones((4, 1)))
    with pytest.raises(ValueError, match="at least 4"):
        isotropy_score(np.ones((3, 2)), centred=True)
    with pytest.raises(ValueError, match="at least 2"):
        isotropy_score(np.ones((1, 2)))


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_effective_rank_is_the_exponential_of_the_entropy(shape: tuple[int, int]) -> None:
    rows = gaussian(*shape) + 0.3
    values = np.linalg.svd(rows, compute_uv=False)
    shares = values / values.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_effective_rank_of_known_spectra() -> None:
    assert effective_rank(np.eye(6)) == pytest.approx(6)
    assert effective_rank(np.outer(np.arange(1, 5), [1.0, 2.0, 3.0])) == pytest.approx(1)
    assert effective_rank(np.zeros((3, 2))) == 0


def test_uniformity_and_mean_cosine_are_over_pairs_of_different_rows() -> None:
    rows = gaussian(13, 4) + 0.5
    normal = unit(rows)
    gaps = [np.sum((normal[i] - normal[j]) ** 2) for i, j in itertools.combinations(range(13), 2)]
    assert uniformity(rows) == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(gaps)))))
    assert mean_cosine(rows) == pytest.approx(np.mean(1 - np.array(gaps) / 2))


def test_uniformity_in_blocks() -> None:
    rows = gaussian(1100, 3)
    gaps = 2 - 2 * unit(rows) @ unit(rows).T
    expected = np.exp(-2 * gaps)[~np.eye(1100, dtype=bool)].mean()
    assert uniformity(rows) == pytest.approx(np.log(expected))


def test_alignment_and_positive_distance() -> None:
    first, second = gaussian(9, 4), gaussian(9, 4, 1)
    gaps = [np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)) for a, b in zip(first, second, strict=True)]
    assert alignment(first, second) == pytest.approx(np.mean(np.square(gaps)))
    assert alignment(first, second, alpha=1) == pytest.approx(np.mean(gaps))
    assert alignment(first, 3 * first) == pytest.approx(0)
    assert mean_positive_distance(first, second) == pytest.approx(np.mean(np.linalg.norm(first - second, axis=1)))
    assert embedding_std(first) == pytest.approx(np.std(first, ddof=1))


def test_hubness_is_the_skewness_of_brute_force_counts() -> None:
    queries, documents = gaussian(40, 3), gaussian(25, 3, 1)
    counts = np.zeros(25)
    for query in queries:
        counts[np.argsort(np.linalg.norm(documents - query, axis=1))[:4]] += 1
    gaps = counts - counts.mean()
    expected = (gaps**3).mean() / (gaps**2).mean() ** 1.5
    assert hubness(queries, documents, 4) == pytest.approx(expected)
    assert expected > 0
    _, rows = top_k(queries.astype(np.float32), documents.astype(np.float32), 4)
    assert occurrence_skewness(rows, 25) != pytest.approx(expected)


def test_a_hub_and_no_hub() -> None:
    corners = np.eye(12)
    assert hubness(corners, corners, 1) == 0
    # One document in the middle of all, which every query finds first.
    hub = np.vstack([3 * corners, np.full((1, 12), 0.05)])
    assert hubness(corners + 0.0, hub, 1) > 3


def test_wrong_input_names_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"\[3, 2\] for positives \[2, 2\]"):
        alignment(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="row 1 is zero"):
        mean_cosine(np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="between 1 and the 3 documents, got 4"):
        hubness(np.ones((1, 2)), np.ones((3, 2)), 4)
    with pytest.raises(ValueError, match="two entries"):
        embedding_std(np.ones((1, 1)))
    with pytest.raises(ValueError, match=r"\[2\]"):
        effective_rank(np.ones(2))
