"""Saved models of passages, and of vectors without text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.serving import saved_model
from jasper_rag.serving.saved_model import LEXICAL, SavedModel, read_model, write_model

Arrays = dict[str, np.ndarray]


@pytest.fixture
def in_passages(fitted: Jasper) -> SavedModel:
    """Two passages of every document."""
    vectors = np.repeat(fitted.model.vectors.vectors, 2, axis=0)
    spans = np.arange(640).reshape(320, 2)
    return dataclasses.replace(fitted.model, vectors=DocumentVectors(vectors, Passages(np.arange(0, 320, 2), spans)))


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_model_of_passages(in_passages: SavedModel, fitted: Jasper, tmp_path: Path) -> None:
    write_model(in_passages, tmp_path / "passages")
    write_model(fitted.model, tmp_path / "whole")
    assert names_below(tmp_path / "passages") == names_below(tmp_path / "whole")
    read, written = read_model(tmp_path / "passages").vectors, in_passages.vectors
    assert len(read) == 160
    np.testing.assert_array_equal(read.vectors, written.vectors)
    assert read.passages is not None
    assert written.passages is not None
    np.testing.assert_array_equal(read.passages.starts, written.passages.starts)
    np.testing.assert_array_equal(read.passages.spans, written.passages.spans)
    assert read.passages.starts.dtype == read.passages.spans.dtype == np.int64


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update(passage_starts=np.arange(1, 321, 2)),
        lambda arrays: arrays.update(passage_starts=np.zeros(160, dtype=np.int64)),
        lambda arrays: arrays.update(passage_spans=np.zeros((319, 2), dtype=np.int64)),
        lambda arrays: arrays.pop("passage_spans"),
        lambda arrays: arrays.pop("passage_starts"),
        lambda arrays: arrays.pop("vectors"),
    ],
)
def test_passages_that_do_not_cover_the_vectors_are_damage(
    in_passages: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Arrays], object]
) -> None:
    arrays_of = saved_model._vector_arrays

    def forged(vectors: DocumentVectors) -> Arrays:
        arrays = arrays_of(vectors)
        change(arrays)
        return arrays

    monkeypatch.setattr(saved_model, "_vector_arrays", forged)
    write_model(in_passages, tmp_path)
    with pytest.raises(InputError) as caught:
        read_model(tmp_path)
    assert "jasper fit" in caught.value.remedy


@pytest.mark.slow
def test_a_model_without_text(fitted: Jasper, tmp_path: Path) -> None:
    documents = tuple(dataclasses.replace(document, text="", title="") for document in fitted.model.documents)
    write_model(dataclasses.replace(fitted.model, documents=documents, lexical=None), tmp_path / "wordless")
    write_model(fitted.model, tmp_path / "worded")
    left_out = names_below(tmp_path / "worded") - names_below(tmp_path / "wordless")
    assert left_out
    assert all(name.startswith(f"{LEXICAL}/") for name in left_out)
    read = read_model(tmp_path / "wordless")
    assert (read.lexical, read.documents) == (None, documents)
