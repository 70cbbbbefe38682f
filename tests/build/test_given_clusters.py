from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from jasper_rag.build.clustering import mean_directions
from jasper_rag.build.given_clusters import clusters_by_topic, place_sources
from jasper_rag.errors import InputError

AXES = np.eye(4, dtype=np.float32)
TOPICS = ["b", "a", "a ", "a", "b", "c", "a", "b", "c", "a", "a", "b"]
ROWS = AXES[["abcd".index(topic.strip()) for topic in TOPICS]]


def test_one_cluster_per_topic_by_size() -> None:
    found = clusters_by_topic(ROWS, TOPICS)
    assert found.names == ("a", "b", "c")
    assert found.clusters.assignment.tolist() == ["abc".index(topic.strip()) for topic in TOPICS]
    np.testing.assert_array_equal(found.clusters.centroids, mean_directions(ROWS, found.clusters.assignment, 3))
    assert found.clusters.inertia == pytest.approx(0, abs=1e-6)


def test_a_source_without_a_topic_joins_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    near_b = np.array([[0.6, 0.8, 0, 0]], dtype=np.float32)
    with caplog.at_level(logging.WARNING):
        found = clusters_by_topic(np.concatenate([ROWS, near_b]), [*TOPICS, " "])
    assert found.clusters.assignment[-1] == found.names.index("b")
    np.testing.assert_array_equal(found.clusters.centroids, clusters_by_topic(ROWS, TOPICS).clusters.centroids)
    assert "1 of 13 sources have no topic" in caplog.text


def test_a_single_topic_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert clusters_by_topic(AXES[:2], ["x", "x"], "title").names == ("x",)
    assert "All sources have the title 'x'" in caplog.text


@pytest.mark.parametrize(
    ("topics", "problem"),
    [([""] * 12, "none of the 12 sources has a title"), ([*"abcdefghijkl"], "12 different values for 12 sources")],
)
def test_topics_that_group_nothing_are_refused(topics: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=rf"\[title\]: {problem}[\s\S]*k-means"):
        clusters_by_topic(ROWS, topics, "title")


def test_another_number_of_topics_is_refused() -> None:
    with pytest.raises(ValueError, match="12 rows but 2 topics"):
        clusters_by_topic(ROWS, ["a", "b"])


KEYWORDS = {"git": 0, "commit": 0, "docker": 1, "deep learning": 2}


def place(lists: list[list[list[str]]], **settings: Any) -> list[int]:
    rows = AXES[np.arange(len(lists)) % 4]
    return [int(k) for k in place_sources(rows, AXES[:3], lists, KEYWORDS, **settings).assignment]


def test_the_majority_of_keywords_then_of_pairs_places_a_source() -> None:
    assert place([[["docker", "git", "commit"]]]) == [0]
    assert place([[["docker", "git"]]]) == [1]  # equally many: the first
    assert place([[["Git"], ["docker", "unknown"], ["DOCKER"]]]) == [1]  # letter case aside
    assert place([[["docker"], ["git"]]]) == [0]  # equally many pairs: the smaller number
    assert place([[["Deep  Learning"]]]) == [2]


def test_sources_without_a_keyword_fall_back(caplog: pytest.LogCaptureFixture) -> None:
    lists = [[["docker"]], [], [["?"]], [["docker"]]]
    with caplog.at_level(logging.WARNING):
        assert place(lists) == [1, 1, 2, 1]
    assert "2 of 4 sources have no known keyword: nearest cluster" in caplog.text
    assert place(lists, fallback="largest") == [1, 1, 1, 1]


def test_given_centroids_stay() -> None:
    clusters = place_sources(AXES[:2], AXES[:3], [[["docker"]], [["docker"]]], KEYWORDS)
    np.testing.assert_array_equal(clusters.centroids, AXES[:3])
    assert clusters.sizes.tolist() == [0, 2, 0]
    assert clusters.inertia == pytest.approx(1)


def test_bad_calls_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown fallback 'random'[\s\S]*nearest or largest"):
        place([[]], fallback="random")
    with pytest.raises(InputError, match="centroids have 3 dimensions, the sources 4"):
        place_sources(AXES, AXES[:, :3], [[]] * 4, KEYWORDS)
    with pytest.raises(ValueError, match="4 rows but 1 keyword lists"):
        place_sources(AXES, AXES, [[]], KEYWORDS)
