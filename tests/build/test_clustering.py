from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from jasper_rag.build.cluster_count import cluster_count
from jasper_rag.build.clustering import (
    Clusters,
    distinct_rows,
    mean_directions,
    nearest_centroid,
    spherical_k_means,
    summed_distance,
)
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError


def unit(rows: object) -> Vectors:
    values = np.asarray(rows, dtype=np.float64)
    scaled: Vectors = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def blobs(rows: int, groups: int, spread: float, dimension: int = 16, seed: int = 0) -> Vectors:
    generator = np.random.default_rng(seed)
    centres = np.eye(dimension)[:groups]
    return unit(centres[np.arange(rows) % groups] + generator.normal(0, spread, (rows, dimension)))


def means_of(vectors: Vectors, clusters: Clusters) -> Vectors:
    return unit([vectors[clusters.assignment == k].astype(np.float64).sum(0) for k in range(len(clusters.centroids))])


def test_clear_groups_are_found_as_by_scikit_learn() -> None:
    vectors = blobs(600, 8, 0.08)
    ours = spherical_k_means(vectors, 8)
    theirs = KMeans(8, n_init=3, random_state=0).fit_predict(vectors)
    assert adjusted_rand_score(theirs, ours.assignment) == 1.0
    assert adjusted_rand_score(np.arange(600) % 8, ours.assignment) == 1.0


def test_where_groups_are_unclear_the_inertia_is_that_of_scikit_learn() -> None:
    vectors = blobs(800, 12, 0.4)
    ours = spherical_k_means(vectors, 12)
    theirs = KMeans(12, n_init=3, random_state=0).fit(vectors)
    centroids = unit(theirs.cluster_centers_)
    assert ours.inertia <= 1.01 * summed_distance(vectors, theirs.labels_.astype(np.int64), centroids)


def test_centroids_are_unit_means_and_inertia_is_their_distance() -> None:
    vectors = blobs(300, 5, 0.3)
    clusters = spherical_k_means(vectors, 5)
    np.testing.assert_allclose(clusters.centroids, means_of(vectors, clusters), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(clusters.centroids, axis=1), 1, atol=1e-6)
    expected = sum(1 - float(row @ clusters.centroids[k]) for row, k in zip(vectors, clusters.assignment, strict=True))
    assert clusters.inertia == pytest.approx(expected, rel=1e-5)
    assert clusters.assignment.dtype == np.int64
    assert clusters.centroids.dtype == np.float32


def test_the_largest_cluster_comes_first() -> None:
    vectors = np.concatenate([blobs(7, 1, 0.05), blobs(90, 2, 0.05)[1::2], blobs(60, 3, 0.05)[2::3]])
    assert spherical_k_means(vectors, 3).sizes.tolist() == [45, 20, 7]


@pytest.mark.parametrize("rows", [200, 1500])  # 1500 > 100 rows per cluster: restarts on a sample
def test_the_order_of_rows_changes_nothing(rows: int) -> None:
    vectors = blobs(rows, 6, 0.5)
    shuffled = np.random.default_rng(3).permutation(rows)
    one, other = spherical_k_means(vectors, 9, seed=4), spherical_k_means(vectors[shuffled], 9, seed=4)
    np.testing.assert_array_equal(one.assignment[shuffled], other.assignment)
    assert one.centroids.tobytes() == other.centroids.tobytes()
    assert one.inertia == other.inertia


def test_the_seed_decides() -> None:
    vectors = blobs(300, 3, 0.6)
    one, same, other = (spherical_k_means(vectors, 10, seed=seed, restarts=1) for seed in (1, 1, 2))
    assert one.centroids.tobytes() == same.centroids.tobytes()
    assert one.centroids.tobytes() != other.centroids.tobytes()


def test_repeated_rows_share_a_cluster_and_count_as_often_as_they_stand_there() -> None:
    vectors = np.concatenate([np.repeat(blobs(1, 1, 0.1), 30, axis=0), blobs(40, 2, 0.3)])
    clusters = spherical_k_means(vectors, 2)
    assert len(set(clusters.assignment[:30].tolist())) == 1
    np.testing.assert_allclose(clusters.centroids, means_of(vectors, clusters), atol=1e-6)


def test_fewer_distinct_rows_than_clusters_is_said(caplog: pytest.LogCaptureFixture) -> None:
    vectors = np.tile(np.eye(3, dtype=np.float32), (5, 1))
    with caplog.at_level(logging.WARNING):
        clusters = spherical_k_means(vectors, 10)
    assert clusters.sizes.tolist() == [5, 5, 5]
    assert clusters.inertia == pytest.approx(0, abs=1e-6)
    assert "10 clusters asked for, but only 3 sources differ" in caplog.text


def test_minus_zero_is_zero() -> None:
    rows = np.array([[1, 0], [1, -0.0]], dtype=np.float32)
    assert len(distinct_rows(rows)[0]) == 1


def test_without_a_number_the_rule_decides() -> None:
    vectors = blobs(150, 10, 0.3)
    assert len(spherical_k_means(vectors).centroids) == cluster_count(150)


@given(
    rows=st.integers(1, 40),
    dimension=st.integers(2, 4),
    k=st.integers(1, 12),
    levels=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_no_cluster_is_empty(rows: int, dimension: int, k: int, levels: int, seed: int) -> None:
    # Coarse coordinates: many equal, opposite and collinear rows.
    values = np.random.default_rng(seed).integers(-levels, levels + 1, (rows, dimension)).astype(np.float64)
    values[~values.any(axis=1), 0] = 1
    vectors = unit(values)
    clusters = spherical_k_means(vectors, k, seed=seed, restarts=1)
    assert len(clusters.centroids) == min(k, len(np.unique(vectors, axis=0)))
    assert clusters.sizes.min() >= 1
    assert (np.diff(clusters.sizes) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(clusters.centroids, axis=1), 1, atol=1e-6)


def test_an_emptied_cluster_gets_the_farthest_row() -> None:
    from jasper_rag.build.clustering import _fill_empty

    assignment = np.array([0, 0, 0, 1], dtype=np.int64)
    similarity = np.array([0.9, 0.2, 0.8, 0.1], dtype=np.float32)
    _fill_empty(assignment, similarity, 4)
    # Row 3 is farther still, but alone in its cluster.
    assert assignment.tolist() == [0, 2, 3, 1]


def test_rows_that_cancel_out_are_stood_for_by_the_first() -> None:
    vectors = unit([[0, 1], [0, -1], [1, 0]])
    means = mean_directions(vectors, np.array([0, 0, 1]), 2)
    np.testing.assert_array_equal(means, vectors[[0, 2]])


def test_nearest_centroid_matches_brute_force_over_blocks() -> None:
    vectors, centroids = blobs(5000, 7, 0.8), blobs(11, 11, 0.1)
    assignment, similarity = nearest_centroid(vectors, centroids)
    scores = vectors.astype(np.float64) @ centroids.T.astype(np.float64)
    np.testing.assert_array_equal(assignment, scores.argmax(1))
    np.testing.assert_allclose(similarity, scores.max(1), atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("k", 0), ("restarts", 0), ("iterations", -1)])
def test_bad_settings_are_named(name: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"\[{name}\].*{name} = {value}") as caught:
        spherical_k_means(blobs(9, 3, 0.1), **({"k": 2} | {name: value}))
    assert caught.value.field == name


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"nothing to cluster: vectors of shape \[0, 4\]"):
        spherical_k_means(np.zeros((0, 4), dtype=np.float32), 2)


@pytest.mark.parametrize(("value", "length"), [(0.0, "0"), (2.0, "2"), (np.nan, "nan"), (np.inf, "inf")])
def test_rows_that_are_not_unit_are_refused(value: float, length: str) -> None:
    vectors = blobs(5, 3, 0.1)
    vectors[3] = 0
    vectors[3, 0] = value
    with pytest.raises(ValueError, match=f"row 3 has length {length}, expected 1"):
        spherical_k_means(vectors, 2)
