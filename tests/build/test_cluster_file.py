from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.build.cluster_file import read_cluster_file
from jasper_rag.errors import InputError


def content(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "metadata": {"n_clusters": 2, "n_keywords": 3},
        "cluster_assignments": {"Git": 0, "docker  image": 1, "commit": 0},
        "clusters": {"0": ["git", "commit"], "1": ["docker image"]},
        "cluster_stats": {"0": {"size": 2, "topic_descriptors": ["version control", "git", "commit", "branch"]}},
        "centroids": [[3, 0, 4], [0, 2, 0]],
        "embeddings": {"git": [0, 0, 5]},
    }
    return whole | changes


def write(directory: Path, value: object) -> Path:
    path = directory / "clusters.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    found = read_cluster_file(write(tmp_path, content()), dimension=3)
    assert found.cluster_of_keyword == {"git": 0, "docker image": 1, "commit": 0}
    np.testing.assert_allclose(found.centroids, np.array([[0.6, 0, 0.8], [0, 1, 0]]), atol=1e-7)
    assert found.centroids.dtype == np.float32
    assert found.names == ("version control, git, commit", "docker image")
    np.testing.assert_array_equal(found.keyword_vectors["git"], [0, 0, 1])


def test_what_may_be_left_out_may_be_left_out(tmp_path: Path) -> None:
    short = {key: content()[key] for key in ("metadata", "cluster_assignments", "centroids")}
    found = read_cluster_file(write(tmp_path, short))
    assert found.names == ("git, commit", "docker image")
    assert not found.keyword_vectors


def test_equal_descriptors_give_different_names(tmp_path: Path) -> None:
    stats = {"0": {"topic_descriptors": ["tools"]}, "1": {"topic_descriptors": ["tools"]}}
    assert read_cluster_file(write(tmp_path, content(cluster_stats=stats))).names == ("tools", "tools (1)")


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"metadata": {"n_clusters": 3}}, "metadata.n_clusters", "3, but there are 2 centroids"),
        ({"metadata": {}}, "metadata", "missing or empty"),
        ({"cluster_assignments": {}}, "cluster_assignments", "missing or empty"),
        ({"cluster_assignments": ["git"]}, "cluster_assignments", "a dict is expected, got list"),
        ({"cluster_assignments": {"git": "0"}}, "cluster_assignments", "'git' has the cluster '0', not a whole number"),
        ({"cluster_assignments": {"git": 0, "GIT": 1}}, "cluster_assignments", "'GIT' is in cluster 1, another"),
        ({"cluster_assignments": {"git": 2}}, "cluster_assignments", "'git' has the cluster 2, expected 0 to 1"),
        ({"cluster_assignments": {"git": 0}}, "cluster_assignments", "no keyword has the cluster 1"),
        ({"clusters": {"0": ["svn"]}}, "clusters.0", "the keyword 'svn' is not in cluster_assignments"),
        ({"clusters": {"1": ["git"]}}, "clusters.1", "the keyword 'git' is in cluster 0"),
        ({"clusters": {"1": "git"}}, "clusters.1", "a list is expected, got str"),
        ({"clusters": ["git"]}, "clusters", "an object is expected, got list"),
        ({"centroids": None}, "centroids", "missing or empty"),
        ({"centroids": [[1, 2, 3], [1, 2]]}, "centroids", "not rows of numbers of one length"),
        ({"centroids": [["x", "y", "z"]]}, "centroids", "not rows of numbers"),
        ({"centroids": [1, 2, 3]}, "centroids", r"rows of numbers are expected, got the shape \[3\]"),
        ({"centroids": [[1, 2], [3, 4]]}, "centroids", "vectors of 2 dimensions, expected 3"),
        ({"centroids": [[1, 2, 3], [0, 0, 0]]}, "centroids", "vector 1 is not finite or all zeros"),
        ({"centroids": [[1, 2, float("nan")], [1, 0, 0]]}, "centroids", "vector 0 is not finite"),
        ({"embeddings": {"svn": [1, 2, 3]}}, "embeddings", "the keyword 'svn' is not in cluster_assignments"),
        ({"embeddings": {"git": [1, 2]}}, "embeddings", "vectors of 2 dimensions, expected 3"),
    ],
)
def test_faults_name_file_and_field(tmp_path: Path, changes: dict[str, Any], field: str, problem: str) -> None:
    path = write(tmp_path, content(**changes))
    with pytest.raises(InputError, match=problem) as caught:
        read_cluster_file(path, dimension=3)
    assert (caught.value.path, caught.value.field) == (path, field)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "not valid JSON"), ("[1]", "a JSON object is expected, got a list")]
)
def test_other_files_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "clusters.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_cluster_file(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_cluster_file(tmp_path / "none.json")
