from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jasper_rag.metrics.best_rows import BestRows, Entries, ranked, row_top_k

KINDS = ("distinct", "ties", "one value", "few candidates", "descending", "ascending")


def _scores(kind: str, seed: int, queries: int, documents: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    scores = generator.standard_normal((queries, documents)).astype(np.float32)
    match kind:
        case "ties":
            return np.round(scores)
        case "one value":
            return np.full_like(scores, 0.25)
        case "few candidates":
            return np.where(generator.random(scores.shape) < 0.02, scores, np.float32(-np.inf))
        case "descending":
            return -np.sort(-scores, axis=1)
        case "ascending":
            return np.sort(scores, axis=1)
    return scores


def _collected(scores: NDArray[np.float32], k: int, block: int, margin: NDArray[np.float32] | None = None) -> BestRows:
    best = BestRows(len(scores), k, margin)
    for start in range(0, scores.shape[1], block):
        best.add(scores[:, start : start + block], start)
    return best


def _brute_force(scores: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(scores, rows, axis=1)
    return values, np.where(values == -np.inf, -1, rows)


@pytest.mark.slow
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
    k=st.integers(1, 12),
    block=st.sampled_from([1, 7, 64, 333, 1000]),
)
def test_streamed_top_k_equals_sorting_whatever_the_blocks(kind: str, seed: int, k: int, block: int) -> None:
    scores = _scores(kind, seed, 3, 700)
    found, rows = _collected(scores, k, block).top()
    expected, expected_rows = _brute_force(scores, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(rows, expected_rows)


@pytest.mark.slow
@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 1000), k=st.integers(1, 12), block=st.sampled_from([7, 64, 333])
)
def test_candidates_are_all_entries_within_the_margin(kind: str, seed: int, k: int, block: int) -> None:
    scores = _scores(kind, seed, 3, 700)
    margin = np.array([0.0, 0.5, 1.25], dtype=np.float32)
    candidates = _collected(scores, k, block, margin).candidates()
    kth = -np.sort(-scores, axis=1)[:, k - 1]
    for query in range(3):
        found = candidates.row[candidates.query == query]
        np.testing.assert_array_equal(candidates.score[candidates.query == query], scores[query, found])
        wanted = np.flatnonzero((scores[query] > kth[query] - margin[query]) & (scores[query] > -np.inf))
        assert set(wanted) <= set(found), "an entry within the margin is missing"
        assert set(found) <= set(wanted) | set(np.flatnonzero(scores[query] >= kth[query]))
    top_scores, top_rows = _collected(scores, k, block, margin).top()
    np.testing.assert_array_equal(top_scores, _brute_force(scores, k)[0])
    np.testing.assert_array_equal(top_rows, _brute_force(scores, k)[1])


def test_k_may_exceed_every_block_and_the_whole() -> None:
    scores = _scores("distinct", 0, 2, 20)
    found, rows = _collected(scores, 30, 6).top()
    np.testing.assert_array_equal(rows[:, :20], _brute_force(scores, 20)[1])
    assert (rows[:, 20:] == -1).all()
    assert (found[:, 20:] == -np.inf).all()


def test_no_query_and_no_document() -> None:
    assert row_top_k(np.zeros((0, 4), dtype=np.float32), 3)[1].shape == (0, 3)
    assert row_top_k(np.zeros((2, 0), dtype=np.float32), 3)[1].shape == (2, 0)
    assert BestRows(2, 3).top()[1].tolist() == [[-1] * 3] * 2


def test_infinite_scores_are_scores() -> None:
    scores = np.array([[0.0, np.inf, -1.0, np.inf]], dtype=np.float32)
    assert row_top_k(scores, 3)[1].tolist() == [[1, 3, 0]]


@pytest.mark.parametrize("column", [0, 437, 699])
def test_nan_anywhere_is_refused_by_place(column: int) -> None:
    scores = _scores("distinct", 0, 2, 700)
    scores[1, column] = np.nan
    with pytest.raises(ValueError, match=f"query 1 and document {column} of a block"):
        BestRows(2, 3).add(scores, 0)


def test_ranked_takes_entries_in_any_order() -> None:
    entries = Entries(np.array([1, 0, 1, 1]), np.array([9, 4, 2, 5]), np.array([0.5, 0.1, 0.5, 0.7], dtype=np.float32))
    scores, rows = ranked(entries, queries=3, k=2)
    assert rows.tolist() == [[4, -1], [5, 2], [-1, -1]]
    assert scores[1].tolist() == pytest.approx([0.7, 0.5])
