from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import BuildPlan, plan_build
from jasper_rag.errors import InputError
from jasper_rag.text.records import RetrievalSet


def plan(given: RetrievalSet, cluster_file: Path | None = None, **settings: Any) -> BuildPlan:
    config = BuildConfig.model_validate({"negatives": {"n_neg": 4}, **settings})
    return plan_build(BuildInput(given), config, cluster_file)


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    path = tmp_path / "clusters.json"
    content = {"metadata": {"n_clusters": 1}, "cluster_assignments": {"ship": 0}, "centroids": [[1.0, 0.0, 0.0]]}
    path.write_text(json.dumps(content))
    return path


def test_a_plan_knows_what_clusters_by(library: RetrievalSet, cluster_file: Path) -> None:
    assert set(plan(library, clustering="topic").topics()) == {"sea", "garden", "music", "kitchen", "weather"}
    assert plan(library, clustering="title").topics() == plan(library, clustering="topic").topics()
    planned = plan(library, cluster_file, clustering="file")
    assert planned.keyword_clusters is not None
    planned.require_dimension(3)
    plan(library).require_dimension(3)
    with pytest.raises(InputError, match=r"clusters\.json \[centroids\]: vectors of 3 dimensions, expected 24"):
        planned.require_dimension(24)


def test_what_would_fail_later_is_refused_now(library: RetrievalSet, cluster_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cluster file"):
        plan(library, clustering="file")
    with pytest.raises(InputError, match="a cluster file, but clustering kmeans"):
        plan(library, cluster_file)
    with pytest.raises(InputError, match="cannot be read"):
        plan(library, tmp_path / "nowhere.json", clustering="file")
    unnamed = replace(library, documents=tuple(replace(document, topic="") for document in library.documents))
    with pytest.raises(InputError, match="none of the 40 sources has a topic"):
        plan(unnamed, clustering="topic")
    own = replace(library, documents=tuple(replace(document, title=document.id) for document in library.documents))
    with pytest.raises(InputError, match="40 different values for 40 sources"):
        plan(own, clustering="title")


def test_more_negatives_than_candidates_are_refused_by_the_question_id(library: RetrievalSet) -> None:
    with pytest.raises(InputError, match=r"question 'sea-0-0' has 36 sources .* 39 are asked for") as refusal:
        plan(library, split="question", negatives={"n_neg": 39})
    # 38 of the 40 sources answer train questions, two of them this one.
    assert "n_neg of at most 36" in str(refusal.value)
    with pytest.raises(InputError, match="sources that could be its negatives"):
        # Train has 32 of the 40 sources.
        plan(library, split="source", negatives={"n_neg": 32})
    assert plan(library, split="question", negatives={"n_neg": 20}).config.negatives.n_neg == 20
