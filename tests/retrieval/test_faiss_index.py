from __future__ import annotations

import sys

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import top_k
from jasper_rag.retrieval.faiss_index import FaissIndex
from jasper_rag.retrieval.vector_index import VectorIndex

VECTORS = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)


def test_without_faiss_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'jasper-rag\[faiss\]'"):
        FaissIndex(VECTORS)


def test_not_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"must be \[N, D\], got \[8\]"):
        FaissIndex(VECTORS[0])


@pytest.fixture
def _faiss() -> None:
    pytest.importorskip("faiss", exc_type=ImportError)


@pytest.mark.usefixtures("_faiss")
def test_flat_is_top_k() -> None:
    index = FaissIndex(VECTORS.astype(np.float64))
    assert isinstance(index, VectorIndex)
    scores, rows = index.search(VECTORS[:5], 7)
    expected, expected_rows = top_k(VECTORS[:5], VECTORS, 7)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert index.add(VECTORS[:2]).tolist() == [60, 61]
    best = VECTORS[expected_rows[0, 0]]
    assert index.add(best[None]).tolist() == [62]
    assert index.search(VECTORS[:1], 2)[1].tolist() == [[expected_rows[0, 0], 62]]
    assert index.search(VECTORS[:1], 99)[1].shape == (1, 63)
    assert index.search(VECTORS[:0], 3)[1].shape == (0, 3)


@pytest.mark.usefixtures("_faiss")
def test_what_an_approximate_index_does_not_find_is_row_minus_one() -> None:
    scores, rows = FaissIndex(VECTORS, "IVF8,Flat").search(VECTORS[:3], 60)
    assert (rows[:, -1] == -1).all()
    assert (scores[rows == -1] == -np.inf).all()


@pytest.mark.usefixtures("_faiss")
def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="cannot make 'Flatt'"):
        FaissIndex(VECTORS, "Flatt")
    with pytest.raises(InputError, match="cannot make 'IVF900,Flat'"):
        FaissIndex(VECTORS, "IVF900,Flat")
    index = FaissIndex(VECTORS)
    with pytest.raises(ValueError, match=r"queries must be \[n, 8\], got \[5, 3\]"):
        index.search(VECTORS[:5, :3], 1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        index.search(VECTORS, 0)
