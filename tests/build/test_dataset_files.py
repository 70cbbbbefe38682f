from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from jasper_rag import dataset_layout as layout
from jasper_rag.build import dataset_files
from jasper_rag.build.dataset_builder import BuiltDataset
from jasper_rag.build.dataset_files import EXTRA_FILES, require_replaceable, write_dataset
from jasper_rag.data.dataset_texts import read_texts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError
from jasper_rag.text.records import RetrievalSet

Build = Callable[..., BuiltDataset]


@pytest.fixture
def built(library: RetrievalSet, build: Build) -> BuiltDataset:
    return build(library, n_clusters=5)


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_the_directory_is_loaded_without_a_warning_and_holds_what_was_built(
    built: BuiltDataset, tmp_path: Path
) -> None:
    root = write_dataset(built, tmp_path / "library")
    splits = JASPERSteeringDataset.create_combined_splits(root)
    held = splits["train"].tensors.all_tensors()
    expected: dict[str, np.ndarray] = {
        "question_embs": built.question_vectors,
        "source_embs": built.source_vectors,
        "keyword_embs": built.keyword_vectors,
        "centroid_embs": built.clusters.clusters.centroids,
        "pair_index": built.table.pairs,
        "pair_cluster_id": built.pair_clusters,
        "pair_relevance": built.table.relevance,
        "centroid_distances": built.centroid_distances(),
        "hard_negatives": built.negatives.rows,
        "negative_tiers": built.negatives.tiers,
        **{f"{split}_idx": rows for split, rows in built.table.splits.items()},
    }
    assert set(held) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(held[name].numpy(), array)
    lists = splits["train"].pair_keyword_ids
    np.testing.assert_array_equal(lists.values, built.keywords.of_pairs.values)
    np.testing.assert_array_equal(lists.weights, built.keywords.of_pairs.weights)
    texts = read_texts(root)
    assert (texts.documents, texts.questions) == (built.table.documents, built.table.questions)
    assert (texts.keywords, texts.clusters) == (built.keywords.vocabulary.keywords, built.clusters.names)
    assert splits["train"].steering_probs == pytest.approx({"zero": 0.5} | dict.fromkeys(layout.VARIANTS[1:], 1 / 6))


def test_extras_and_checksums(built: BuiltDataset, tmp_path: Path) -> None:
    root = write_dataset(built, tmp_path / "library")
    assert set(EXTRA_FILES) <= {path.name for path in root.iterdir()}
    clusters = load_file(root / "source_cluster_id.safetensors")["source_cluster_id"]
    np.testing.assert_array_equal(clusters, built.clusters.clusters.assignment)
    scores = load_file(root / "negative_scores.safetensors")["negative_scores"]
    np.testing.assert_array_equal(scores, built.negatives.scores)
    asked = load_file(root / "question_keyword_ids.safetensors")
    np.testing.assert_array_equal(asked["values"], built.keywords.of_questions.values)
    report = json.loads((root / "build_report.json").read_text())
    config = json.loads((root / "config.json").read_text())
    assert report["encoder"] == config["encoder"] == built.identity.to_json()
    assert report["build"] == config["build"] == built.config.model_dump(mode="json")
    assert report["leaks"] == built.leaks
    assert report["pairs_without_keywords"] == 0
    named = json.loads((root / "checksums.json").read_text())["files"]
    free = {"hard_negatives.safetensors", "negative_tiers.safetensors", "negative_scores.safetensors"}
    free |= {"config.json", "checksums.json"}
    assert set(named) == {path.name for path in root.iterdir()} - free
    assert all(hashlib.sha256((root / name).read_bytes()).hexdigest() == digest for name, digest in named.items())
    marks = set()
    for name in ("hard_negatives", "negative_tiers", "negative_scores"):
        with safe_open(root / f"{name}.safetensors", framework="np") as file:
            marks.add(file.metadata()["mining"])
    assert marks == {built.negatives.mark()}
    # Negatives may be exchanged without the checksums.
    (root / "negative_scores.safetensors").unlink()
    JASPERSteeringDataset(root, "train")


def test_only_a_dataset_or_nothing_is_replaced(built: BuiltDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "config.json").write_text('{"theme": "dark"}')
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    for place in (tmp_path / "file", notes, broken):
        with pytest.raises(InputError, match="something else than a dataset is here"):
            write_dataset(built, place)
    assert (notes / "config.json").read_text() == '{"theme": "dark"}'
    empty = tmp_path / "empty"
    empty.mkdir()
    require_replaceable(empty)
    root = write_dataset(built, empty)
    (root / "left.pt").write_bytes(b"old")
    assert "left.pt" not in files_of(write_dataset(built, root))


@pytest.mark.parametrize("failing", ["save_file", "write_json", "file_sha256", "write_text"])
def test_a_failure_midway_leaves_the_older_dataset(
    built: BuiltDataset,
    library: RetrievalSet,
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    root = write_dataset(built, tmp_path / "library")
    before = files_of(root)
    real: Any = getattr(dataset_files, failing)
    calls = 0

    def fail(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        return real(*arguments)

    monkeypatch.setattr(dataset_files, failing, fail)
    with pytest.raises(OSError, match="No space left on device") as refusal:
        write_dataset(build(library, random_seed=9), root)
    assert str(root) in str(refusal.value)
    assert files_of(root) == before
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == ["library"]
