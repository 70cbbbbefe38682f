from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.jasper_config import load_config
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.records import Document
from jasper_rag.text.training_questions import PSEUDO, PSEUDO_DEV

SIZES = {"train": 80, "dev": 20, "test": 10, PSEUDO: 60, PSEUDO_DEV: 6}


@pytest.fixture(scope="module")
def benchmark_module(repository: Path) -> ModuleType:
    """The benchmark as a module."""
    path = repository / "benchmarks" / "documents_only.py"
    spec = importlib.util.spec_from_file_location("documents_only_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def embedded() -> EmbeddedSet:
    """100 documents; every question has two relevant ones."""
    vectors = np.eye(100, dtype=np.float32)

    def queries(split: str, count: int) -> EmbeddedQueries:
        ids = tuple(f"{split}{row}" for row in range(count))
        found = np.arange(2 * count) % 100
        judgements = Judgements(np.arange(0, 2 * count + 1, 2), found, np.ones(2 * count, dtype=np.int64))
        return EmbeddedQueries(ids, ids, vectors[:count], judgements)

    splits = {split: queries(split, count) for split, count in SIZES.items()}
    documents = tuple(Document(f"d{row}", f"text {row}") for row in range(100))
    return EmbeddedSet("set", documents, DocumentVectors(vectors), splits, np.arange(100), {})


def test_labels_are_drawn_in_proportion(benchmark_module: ModuleType, embedded: EmbeddedSet) -> None:
    drawn = benchmark_module._drawn(embedded, 50, 0, beside=True)
    assert {split: len(queries) for split, queries in drawn.splits.items()} == {**SIZES, "train": 20, "dev": 5}
    for split in ("train", "dev"):
        whole, part = embedded.splits[split], drawn.splits[split]
        rows = [whole.ids.index(query) for query in part.ids]
        assert rows == sorted(set(rows))
        np.testing.assert_array_equal(part.judgements.documents, whole.judgements.select(rows).documents)
        np.testing.assert_array_equal(part.vectors, whole.vectors[rows])
    assert benchmark_module._drawn(embedded, 50, 1, beside=True).splits["train"].ids != drawn.splits["train"].ids
    everything = benchmark_module._drawn(embedded, 200, 0, beside=False)
    assert set(everything.splits) == {"train", "dev", "test"}
    assert everything.splits["train"].ids == embedded.splits["train"].ids


def test_without_labels_pseudo_questions_take_their_place(benchmark_module: ModuleType, embedded: EmbeddedSet) -> None:
    drawn = benchmark_module._drawn(embedded, 0, 0, beside=False)
    assert {split: queries.ids[0] for split, queries in drawn.splits.items()} == {
        "train": f"{PSEUDO}0",
        "dev": f"{PSEUDO_DEV}0",
        "test": "test0",
    }


def test_defaults_put_pseudo_questions_beside_few_labels(benchmark_module: ModuleType, embedded: EmbeddedSet) -> None:
    settings = load_config(overrides={"pseudo_questions.below": 100})
    beside = [benchmark_module._is_beside(settings, embedded, count, "default") for count in (50, 124, 126)]
    assert beside == [True, True, False]
    assert not benchmark_module._is_beside(settings, embedded, 50, "labels alone")
