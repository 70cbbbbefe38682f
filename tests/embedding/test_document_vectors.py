from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jasper_rag.embedding import document_vectors
from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.metrics.topk import top_k

DIM = 4
COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=9)
"""Passages of each document."""


def cut(counts: list[int], seed: int = 0, *, whole_numbers: bool = False) -> DocumentVectors:
    """Documents of so many passages; whole numbers make ties, and exact sums in any order."""
    generator = np.random.default_rng(seed)
    rows = sum(counts)
    vectors = generator.integers(-2, 3, (rows, DIM)) if whole_numbers else generator.standard_normal((rows, DIM))
    starts = np.cumsum([0, *counts[:-1]]).astype(np.int64)
    spans = np.stack([np.arange(rows), np.arange(rows) + 7], axis=1).astype(np.int64)
    return DocumentVectors(vectors.astype(np.float32), Passages(starts, spans))


def queries_of(seed: int, count: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng([seed, 1]).integers(-2, 3, (count, DIM)).astype(np.float32)


def blocks(of: DocumentVectors) -> list[NDArray[np.float32]]:
    """The rows of each document, cut out by hand."""
    if of.passages is None:
        return [row[None] for row in of.vectors]
    return np.split(of.vectors, of.passages.starts[1:].tolist())


def brute_force(of: DocumentVectors, queries: NDArray[np.float32]) -> list[list[float]]:
    """Score of every document: the best of its passages, one product at a time."""
    return [[max(float(query @ passage) for passage in rows) for rows in blocks(of)] for query in queries]


@pytest.mark.slow
@given(COUNTS, st.integers(0, 99), st.integers(1, 12))
def test_a_document_scores_as_its_best_passage(counts: list[int], seed: int, k: int) -> None:
    vectors, queries = cut(counts, seed, whole_numbers=True), queries_of(seed)
    expected = brute_force(vectors, queries)
    np.testing.assert_array_equal(vectors.inner_products(queries), expected)
    scores, rows = vectors.top_k(queries, k)
    assert (scores.dtype.name, rows.dtype.name) == ("float32", "int64")
    for query, row in enumerate(expected):
        # Ties by the smaller row.
        order = sorted(range(len(counts)), key=lambda document: (-row[document], document))[:k]
        assert rows[query].tolist() == order
        assert scores[query].tolist() == [row[document] for document in order]


@pytest.mark.parametrize("held", [1, 40, 2**25])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    vectors, queries = cut([2, 1, 3, 1, 4] * 3), queries_of(0, 20)
    expected = vectors.top_k(queries, 4)
    monkeypatch.setattr(document_vectors, "_SCORES", held)
    found = vectors.top_k(queries, 4)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_documents_of_one_passage_are_whole_documents() -> None:
    one_each, queries = cut([1] * 30), queries_of(3)
    whole = DocumentVectors(one_each.vectors)
    assert (len(one_each), one_each.dimension) == (len(whole), whole.dimension) == (30, DIM)
    for found, expected in zip(one_each.top_k(queries, 7), whole.top_k(queries, 7), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(whole.top_k(queries, 7)[1], top_k(queries, whole.vectors, 7)[1])
    np.testing.assert_array_equal(one_each.inner_products(queries), whole.inner_products(queries))


def test_no_query_at_all() -> None:
    for vectors in (cut([2, 3]), DocumentVectors(cut([2, 3]).vectors)):
        scores, rows = vectors.top_k(queries_of(0)[:0], 2)
        assert scores.shape == rows.shape == (0, 2)
        assert (scores.dtype.name, rows.dtype.name) == ("float32", "int64")


@pytest.mark.slow
@given(COUNTS, st.integers(0, 99), st.data())
def test_the_best_passage_is_the_one_that_scored(counts: list[int], seed: int, data: st.DataObject) -> None:
    vectors = cut(counts, seed, whole_numbers=True)
    (query,) = queries_of(seed, 1)
    documents = np.array(data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=6)), dtype=np.int64)
    found = vectors.best_passages(query, documents)
    starts = np.cumsum([0, *counts])
    for document, row in zip(documents, found, strict=True):
        scores = [float(query @ passage) for passage in blocks(vectors)[document]]
        assert row == starts[document] + scores.index(max(scores))  # the first of equals


@pytest.mark.slow
@given(COUNTS, st.integers(0, 99), st.data())
def test_select_takes_documents_in_the_order_asked_for(counts: list[int], seed: int, data: st.DataObject) -> None:
    vectors = cut(counts, seed)
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=6))
    found = vectors.select(np.array(chosen, dtype=np.int64))
    assert len(found) == len(chosen)
    for block, document in zip(blocks(found), chosen, strict=True):
        np.testing.assert_array_equal(block, blocks(vectors)[document])
    assert found.passages is not None
    assert found.passages.counts().tolist() == [counts[document] for document in chosen]
    # A span is the number of its row.
    np.testing.assert_array_equal(vectors.vectors[found.passages.spans[:, 0]], found.vectors)
    rows, owner = vectors.rows_of(np.array(chosen, dtype=np.int64))
    np.testing.assert_array_equal(vectors.vectors[rows], found.vectors)
    assert owner.tolist() == [place for place, document in enumerate(chosen) for _ in range(counts[document])]


@pytest.mark.slow
@given(COUNTS, COUNTS, st.integers(0, 99))
def test_joined_documents_score_as_apart(first: list[int], second: list[int], seed: int) -> None:
    one, other, queries = cut(first, seed), cut(second, seed + 1), queries_of(seed)
    joined = one.followed_by(other)
    assert len(joined) == len(first) + len(second)
    apart = np.concatenate([one.inner_products(queries), other.inner_products(queries)], axis=1)
    np.testing.assert_allclose(joined.inner_products(queries), apart, atol=1e-5)
    for places, part in ((range(len(first)), one), (range(len(first), len(joined)), other)):
        again = joined.select(np.array(places))
        np.testing.assert_array_equal(again.vectors, part.vectors)
        assert again.passages is not None
        assert part.passages is not None
        np.testing.assert_array_equal(again.passages.starts, part.passages.starts)
        np.testing.assert_array_equal(again.passages.spans, part.passages.spans)


def test_whole_documents_are_selected_and_joined_by_row() -> None:
    vectors = DocumentVectors(cut([1] * 6).vectors)
    rows = np.array([4, 0, 4])
    assert vectors.select(rows).passages is None
    np.testing.assert_array_equal(vectors.select(rows).vectors, vectors.vectors[rows])
    found, owner = vectors.rows_of(rows)
    assert (found.tolist(), owner.tolist()) == ([4, 0, 4], [0, 1, 2])
    assert vectors.best_passages(queries_of(0)[0], rows).tolist() == [4, 0, 4]
    joined = vectors.followed_by(vectors.select(rows))
    assert (len(joined), joined.passages) == (9, None)
    np.testing.assert_array_equal(joined.vectors[6:], vectors.vectors[rows])


def test_whole_documents_become_a_passage_each() -> None:
    whole, queries = DocumentVectors(cut([1] * 3).vectors), queries_of(0)
    passages = whole.as_passages([9, 0, 30])
    assert passages.passages is not None
    assert passages.passages.spans.tolist() == [[0, 9], [0, 0], [0, 30]]
    np.testing.assert_array_equal(passages.inner_products(queries), whole.inner_products(queries))
    assert len(cut([2, 3]).followed_by(passages)) == 5


def test_passages_and_whole_documents_do_not_mix() -> None:
    passages, whole = cut([1, 1]), DocumentVectors(cut([2]).vectors)
    for one, other in ((passages, whole), (whole, passages)):
        with pytest.raises(ValueError, match="documents with passages cannot be joined to documents without"):
            one.followed_by(other)


@pytest.mark.parametrize(
    ("starts", "spans"),
    [
        ([], 0),
        ([], 3),
        ([1, 2], 3),
        ([0, 2, 2], 3),
        ([0, 2, 1], 3),
        ([0, 3], 3),
        ([0, 9], 3),
        ([-1, 1], 3),
        ([0, 1], 2),
        ([0, 1], 4),
    ],
)
def test_passages_that_do_not_cover_the_rows_are_refused(starts: list[int], spans: int) -> None:
    places = Passages(np.array(starts, dtype=np.int64), np.zeros((spans, 2), dtype=np.int64))
    with pytest.raises(ValueError, match=re.escape(f"passages [{spans}, 2] do not cover 3 vectors")):
        DocumentVectors(np.zeros((3, DIM), dtype=np.float32), places)
