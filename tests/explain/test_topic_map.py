from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.explain.topic_map import places_of, topic_map
from jasper_rag.models.guard import unit


def topics(count: int, sources: int, seed: int = 0, spread: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of sources around random centroids, their topics, the centroids."""
    generator = np.random.default_rng(seed)
    centroids = unit(generator.standard_normal((count, 16)).astype(np.float32))
    assignment = np.concatenate([np.arange(count), generator.integers(count, size=sources - count)])
    vectors = unit(centroids[assignment] + spread * generator.standard_normal((sources, 16)).astype(np.float32))
    return vectors, assignment, centroids


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_discs_do_not_overlap_and_hold_their_dots(count: int) -> None:
    vectors, assignment, centroids = topics(count, 300)
    found = topic_map(vectors, assignment, centroids)
    sizes = np.bincount(assignment)
    np.testing.assert_allclose(found.radii**2 / sizes, (found.radii**2 / sizes)[0])
    distance = np.linalg.norm(found.centres[:, None] - found.centres[None], axis=2)
    apart = found.radii[:, None] + found.radii[None]
    np.fill_diagonal(distance, np.inf)
    assert (distance > 0.98 * apart).all()
    assert (np.linalg.norm(found.points - found.centres[assignment], axis=1) <= found.radii[assignment]).all()
    low, high = found.centres - found.radii[:, None], found.centres + found.radii[:, None]
    np.testing.assert_allclose(low.min(axis=0), [0, 0], atol=1e-9)
    np.testing.assert_allclose(high.max(axis=0), [found.width, 1], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5])
def test_equal_topics_stand_beside_each_other(count: int) -> None:
    centroids = np.tile(unit(np.ones((1, 16), dtype=np.float32)), (count, 1))
    assignment = np.arange(60) % count
    found = topic_map(centroids[assignment], assignment, centroids)
    distance = np.linalg.norm(found.centres[:, None] - found.centres[None], axis=2) + 9 * np.eye(count)
    assert (distance > 0.98 * (found.radii[:, None] + found.radii[None])).all()
    assert np.isfinite(found.points).all()


@pytest.mark.slow
def test_no_two_dots_share_a_place() -> None:
    vectors, assignment, centroids = topics(5, 400)
    points = topic_map(vectors, assignment, centroids).points
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.3 * np.median(distance.min(axis=1))


@pytest.mark.slow
def test_the_order_of_the_sources_does_not_matter() -> None:
    vectors, assignment, centroids = topics(6, 200)
    order = np.random.default_rng(1).permutation(200)
    one, other = topic_map(vectors, assignment, centroids), topic_map(vectors[order], assignment[order], centroids)
    np.testing.assert_allclose(one.centres, other.centres, atol=1e-6)
    np.testing.assert_allclose(one.points[order], other.points, atol=1e-6)


@pytest.mark.slow
def test_similar_topics_are_near_each_other() -> None:
    generator = np.random.default_rng(3)
    families = unit(generator.standard_normal((4, 16)).astype(np.float32))
    centroids = unit(np.repeat(families, 4, axis=0) + 0.3 * generator.standard_normal((16, 16)).astype(np.float32))
    assignment = np.arange(320) % 16
    vectors = unit(centroids[assignment] + 0.2 * generator.standard_normal((320, 16)).astype(np.float32))
    found = topic_map(vectors, assignment, centroids)
    distance = np.linalg.norm(found.centres[:, None] - found.centres[None], axis=2)
    family = np.arange(16) // 4
    same = (family[:, None] == family[None]) & ~np.eye(16, dtype=bool)
    assert distance[same].mean() < 0.6 * distance[family[:, None] != family[None]].mean()


@pytest.mark.slow
def test_typical_sources_stand_in_the_middle_and_doubtful_ones_lean() -> None:
    vectors, assignment, centroids = topics(2, 200, spread=0.6)
    found = topic_map(vectors, assignment, centroids)
    similarity = vectors @ centroids.T
    margin = similarity[np.arange(200), assignment] - similarity[np.arange(200), 1 - assignment]
    distance = np.linalg.norm(found.points - found.centres[assignment], axis=1) / found.radii[assignment]
    for topic in range(2):
        here = assignment == topic
        order = np.argsort(-margin[here], kind="stable")
        ranks = np.argsort(np.argsort(distance[here][order]))
        # The spiral's slots are dealt out ring by ring, from the middle outwards.
        assert np.corrcoef(ranks, np.arange(here.sum()))[0, 1] > 0.95


@pytest.mark.slow
def test_more_topics_than_pairs_of_rounds_are_still_laid_out() -> None:
    vectors, assignment, centroids = topics(200, 400)
    found = topic_map(vectors, assignment, centroids)
    assert np.isfinite(found.points).all()
    assert found.width > 0.5


@pytest.mark.slow
def test_a_vector_stands_in_the_disc_of_its_centroid_the_clearer_the_nearer() -> None:
    vectors, assignment, centroids = topics(5, 300)
    found = topic_map(vectors, assignment, centroids)
    clear, doubtful = centroids[[2]], unit(centroids[[2]] + np.float32(0.9) * centroids[[4]])
    places = places_of(np.concatenate([clear, doubtful]), found, vectors, assignment, centroids)
    near, far = np.linalg.norm(places - found.centres[2], axis=1)
    assert near < far <= found.radii[2] + 1e-9
    side = found.centres[4] - found.centres[2]
    assert (places[1] - found.centres[2]) @ side > 0
