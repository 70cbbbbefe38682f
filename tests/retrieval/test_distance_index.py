from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jasper_rag.errors import InputError
from jasper_rag.retrieval.distance_index import Backend, DistanceIndex

BACKENDS = get_args(Backend)
GENERATOR = np.random.default_rng(0)
VECTORS = (3.0 + GENERATOR.standard_normal((300, 12)) * 20).astype(np.float32)
QUERIES = np.vstack([VECTORS[:3], GENERATOR.standard_normal((9, 12)).astype(np.float32)])


def index_of(vectors: NDArray[np.float32], backend: Backend = "numpy") -> DistanceIndex:
    if backend == "faiss":
        pytest.importorskip("faiss")
    index = DistanceIndex(vectors.shape[1], backend)
    index.add(vectors)
    return index


def brute_force(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    far = np.linalg.norm(queries[:, None].astype(np.float64) - vectors[None], axis=2)
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(far, order, axis=1), order


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 10, 300, 400])
def test_every_backend_gives_the_distances_of_brute_force(backend: Backend, k: int) -> None:
    distances, rows = index_of(VECTORS, backend).search(QUERIES, k)
    expected, expected_rows = brute_force(QUERIES, VECTORS, k)
    np.testing.assert_allclose(distances, expected, atol=1e-9)
    np.testing.assert_array_equal(rows, expected_rows)
    assert distances[0, 0] == 0.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbours_closer_than_rounding_can_tell_are_told_apart(backend: Backend) -> None:
    # 60 vectors of length 1e4 around one point: their inner products with a query are equal in float32.
    gaps = np.linspace(0.5, 0.001, 60)
    near = np.zeros((60, 4), dtype=np.float32)
    near[:, 0], near[:, 1] = 1e4, gaps
    query = np.array([[1e4, 0, 0, 0]], dtype=np.float32)
    distances, rows = index_of(near, backend).search(query, 3)
    assert rows.tolist() == [[59, 58, 57]]
    np.testing.assert_allclose(distances[0], np.sort(near[:, 1].astype(np.float64))[:3], rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_vectors_come_in_the_order_of_their_rows(backend: Backend) -> None:
    same = np.ones((100, 3), dtype=np.float32)
    assert index_of(same, backend).search(same[:2], 40)[1].tolist() == [list(range(40))] * 2


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=12), st.sampled_from(["numpy", "torch"]))
def test_rows_keep_their_numbers_through_any_history(steps: list[tuple[bool, int]], backend: Backend) -> None:
    index = DistanceIndex(12, backend)
    kept: dict[int, NDArray[np.float32]] = {}
    for number, (adds, count) in enumerate(steps):
        if adds or not kept:
            vectors = VECTORS[np.arange(count) * (number + 1) % len(VECTORS)] + number
            kept |= dict(zip(index.add(vectors).tolist(), vectors, strict=True))
        else:
            gone = list(kept)[::2][:count]
            index.remove(gone)
            kept = {row: vector for row, vector in kept.items() if row not in gone}
        assert len(index) == len(kept)
        assert index.rows.tolist() == list(kept)
        if kept:
            alive = np.array(list(kept.values()))
            np.testing.assert_array_equal(index.vectors, alive)
            distances, rows = index.search(QUERIES, 5)
            expected, places = brute_force(QUERIES, alive, 5)
            np.testing.assert_allclose(distances, expected, atol=1e-9)
            assert rows.tolist() == [[list(kept)[place] for place in line] for line in places.tolist()]


def test_nothing_is_found_among_nothing() -> None:
    index = DistanceIndex(12)
    assert index.search(QUERIES, 5)[1].shape == (len(QUERIES), 0)
    assert index_of(VECTORS).search(QUERIES[:0], 5)[1].shape == (0, 5)
    index.remove(index.add(VECTORS[:3]))
    assert (len(index), index.search(QUERIES, 1)[0].shape, index.next_row) == (0, (len(QUERIES), 0), 3)
    assert index.add(VECTORS[:1]).tolist() == [3]


def test_programming_errors() -> None:
    index = index_of(VECTORS)
    with pytest.raises(ValueError, match=r"queries must be \[n, 12\], got \[2, 3\]"):
        index.search(np.zeros((2, 3)), 1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        index.search(QUERIES, 0)
    with pytest.raises(ValueError, match="row 1 is not finite"):
        index.add(np.array([[0.0] * 12, [np.nan] * 12]))
    with pytest.raises(ValueError, match="too long to be squared"):
        index.add(np.full((1, 12), 1e30))
    with pytest.raises(ValueError, match="row 999 is not in the index"):
        index.remove([0, 999])
    assert len(index) == 300
    index.remove([7])
    with pytest.raises(ValueError, match="row 7 is not in the index"):
        index.remove([7])
    with pytest.raises(ValueError, match="row 0 is not in the index"):
        DistanceIndex(3).remove([0])
    with pytest.raises(InputError, match="'annoy' is not a search backend"):
        DistanceIndex(3, "annoy")  # type: ignore[arg-type]
