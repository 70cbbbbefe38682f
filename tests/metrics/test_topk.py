from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jasper_rag.metrics import topk
from jasper_rag.metrics.topk import as_float32, inner_products, row_top_k, top_k


def _small_integers(seed: int, rows: int, columns: int = 3) -> NDArray[np.float32]:
    """Vectors whose inner products are exact and often equal."""
    return np.random.default_rng(seed).integers(-2, 3, size=(rows, columns)).astype(np.float32)


def _brute_force(scores: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.slow
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(0, 7), st.integers(0, 40)),
    k=st.integers(1, 45),
    document_block=st.integers(1, 50),
    query_block=st.integers(1, 9),
)
def test_equals_brute_force_with_ties_for_all_block_sizes(
    seed: int, shape: tuple[int, int], k: int, document_block: int, query_block: int
) -> None:
    queries, documents = _small_integers(seed, shape[0]), _small_integers(seed + 1, shape[1])
    scores, rows = top_k(queries, documents, k, document_block=document_block, query_block=query_block)
    expected_scores, expected_rows = _brute_force(queries @ documents.T, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64


@pytest.mark.parametrize("by_query", [False, True])
def test_only_allowed_documents_are_returned(by_query: bool) -> None:
    queries, documents = _small_integers(0, 5), _small_integers(1, 30)
    allowed = np.random.default_rng(2).random((5, 30) if by_query else 30) < 0.3
    scores, rows = top_k(queries, documents, 12, document_block=7, query_block=2, allowed=allowed)
    masked = np.where(np.broadcast_to(allowed, (5, 30)), queries @ documents.T, -np.inf)
    expected_scores, expected_rows = _brute_force(masked, 12)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(rows, np.where(expected_scores == -np.inf, -1, expected_rows))
    assert (rows == -1).any()


def test_reads_a_memory_map_of_half_precision(tmp_path: Path) -> None:
    documents = _small_integers(3, 50)
    np.save(tmp_path / "documents.npy", documents.astype(np.float16))
    mapped = np.load(tmp_path / "documents.npy", mmap_mode="r")
    queries = _small_integers(4, 3)
    np.testing.assert_array_equal(
        top_k(queries, mapped, 5, document_block=8)[1], _brute_force(queries @ documents.T, 5)[1]
    )
    np.testing.assert_array_equal(inner_products(queries, mapped, document_block=8), queries @ documents.T)


@pytest.mark.slow
def test_memory_is_that_of_one_block() -> None:
    queries, documents = np.ones((64, 4), dtype=np.float32), np.ones((50_000, 4), dtype=np.float32)
    top_k(queries, documents, 5, document_block=500, query_block=16)
    tracemalloc.start()
    top_k(queries, documents, 5, document_block=500, query_block=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All scores would be 12.8 MB; a block of them is 32 kB, and resolving ties takes some copies of it.
    assert peak < 1_000_000


def test_row_top_k_accepts_read_only_strided_and_double_scores() -> None:
    scores = np.arange(24, dtype=np.float64).reshape(4, 6)[:, ::-2]
    scores.flags.writeable = False
    values, rows = row_top_k(scores, 2)  # type: ignore[arg-type]
    assert rows.tolist() == [[0, 1]] * 4
    assert values[0].tolist() == [5.0, 3.0]
    read_only = np.ones((1, 3), dtype=np.float32)
    read_only.flags.writeable = False
    assert row_top_k(read_only, 2)[1].tolist() == [[0, 1]]


@pytest.mark.parametrize("queries", [1, 3, 20])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_scores_are_inner_products_on_every_path(queries: int, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk, "_CONVERTED_ROWS", 8)
    asked, documents = _small_integers(5, queries, 17), _small_integers(6, 30, 17)
    expected = asked @ documents.T
    np.testing.assert_array_equal(inner_products(asked, documents.astype(dtype)), expected)
    np.testing.assert_array_equal(inner_products(asked, np.asfortranarray(documents.astype(dtype))), expected)
    monkeypatch.delattr(np, "vecdot", raising=False)
    np.testing.assert_array_equal(inner_products(asked, documents.astype(dtype)), expected)


def test_threads_share_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk, "_SHARE", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    queries, documents = _small_integers(7, 2), _small_integers(8, 50)
    np.testing.assert_array_equal(inner_products(queries, documents), queries @ documents.T)
    documents[49] = np.nan
    with pytest.raises(ValueError, match="NaN score"):
        top_k(queries, documents, 1)


def test_half_precision_becomes_float32_read_only_or_not() -> None:
    half = np.random.default_rng(9).standard_normal((5, 3)).astype(np.float16)
    np.testing.assert_array_equal(as_float32(half), half.astype(np.float32))
    half.flags.writeable = False
    np.testing.assert_array_equal(as_float32(half), half.astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_a_number_is_refused(bad: float) -> None:
    documents = np.zeros((4, 2), dtype=np.float32)
    documents[2, 0] = bad
    with pytest.raises(ValueError, match="NaN score: query 0 and document 2"):
        top_k(np.zeros((2, 2), dtype=np.float32), documents, 1)


def test_wrong_shapes_and_sizes_are_refused() -> None:
    queries, documents = np.zeros((2, 3), dtype=np.float32), np.zeros((5, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"\[2, 2\] and \[5, 3\]"):
        top_k(queries[:, :2], documents, 1)
    with pytest.raises(ValueError, match="got 512 and 0"):
        top_k(queries, documents, 0)
    with pytest.raises(ValueError, match="document_block must be at least 1, got 0"):
        inner_products(queries, documents, document_block=0)
    with pytest.raises(ValueError, match=r"allowed must be \[5\] or \[2, 5\], got \[4\]"):
        top_k(queries, documents, 1, allowed=np.ones(4, dtype=np.bool_))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        row_top_k(queries, 0)
