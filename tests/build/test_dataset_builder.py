from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.build.dataset_builder import BuiltDataset
from jasper_rag.build.dataset_files import write_dataset
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.errors import InputError
from jasper_rag.text.records import RetrievalSet

Build = Callable[..., BuiltDataset]


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_the_parts_fit_together(library: RetrievalSet, build: Build, word_encoder: Encoder) -> None:
    built = build(library, split="question", clustering="topic")
    table, clusters = built.table, built.clusters.clusters
    np.testing.assert_array_equal(built.source_vectors, word_encoder.encode(table.source_texts, "document"))
    np.testing.assert_array_equal(built.question_vectors, word_encoder.encode(table.question_texts, "query"))
    assert built.pair_clusters.tolist() == [clusters.assignment[source] for _, source in table.pairs]
    expected = [
        1 - built.question_vectors[question] @ clusters.centroids[clusters.assignment[source]]
        for question, source in table.pairs
    ]
    np.testing.assert_allclose(built.centroid_distances(), expected, atol=1e-6)
    assert built.negatives.rows.shape == (82, 4)
    assert len(built.keyword_vectors) == len(built.keywords.vocabulary)
    assert set(built.leaks) == {"val", "test"}
    assert built.identity.name == "words-0"
    # All known positives, those of other splits too, are kept out.
    known = {(int(question), int(source)) for question, source in table.pairs}
    for (question, _), negatives in zip(table.pairs.tolist(), built.negatives.rows.tolist(), strict=True):
        assert not {(question, negative) for negative in negatives} & known


def test_the_order_of_the_input_changes_no_byte(library: RetrievalSet, build: Build, tmp_path: Path) -> None:
    first = bytes_of(write_dataset(build(library, n_clusters=5), tmp_path / "first"))
    again = bytes_of(write_dataset(build(library, n_clusters=5), tmp_path / "again"))
    assert again == first
    chance = random.Random(0)
    shuffled = replace(
        library,
        documents=tuple(chance.sample(library.documents, 40)),
        queries=tuple(chance.sample(library.queries, 80)),
        qrels={"all": dict(chance.sample(list(library.qrels["all"].items()), 80))},
    )
    assert bytes_of(write_dataset(build(shuffled, n_clusters=5), tmp_path / "shuffled")) == first
    other = bytes_of(write_dataset(build(library, n_clusters=5, random_seed=1), tmp_path / "other"))
    assert other["hard_negatives.safetensors"] != first["hard_negatives.safetensors"]


def test_a_cluster_file_of_another_encoder_is_refused_before_embedding(
    library: RetrievalSet, build: Build, tmp_path: Path, word_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"metadata": {"n_clusters": 1}, "cluster_assignments": {"ship": 0}, "centroids": [[1.0, 0.0]]}
    (tmp_path / "clusters.json").write_text(json.dumps(content))
    monkeypatch.setattr(type(word_encoder), "encode", None)
    with pytest.raises(InputError, match="vectors of 2 dimensions, expected 24"):
        build(library, tmp_path / "clusters.json", clustering="file")
