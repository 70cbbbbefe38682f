from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import top_k
from jasper_rag.retrieval.vector_index import ExactIndex, VectorIndex

STORAGES = ("float32", "float16", "int8")


def _clustered(count: int, seed: int = 0, dimension: int = 24) -> NDArray[np.float32]:
    """Unit vectors in tight clusters, so that the stored form alone gets many ranks wrong."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((4, dimension))
    vectors = centres[generator.integers(0, 4, count)] + 0.1 * generator.standard_normal((count, dimension))
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _mapped(path: Path, vectors: NDArray[Any]) -> NDArray[Any]:
    np.save(path, vectors)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def _assert_finds(index: VectorIndex, vectors: dict[int, NDArray[np.float32]], k: int = 7) -> None:
    """The index finds what a fresh search over `vectors` (row -> vector) finds, by row."""
    queries = _clustered(15, seed=5)
    rows = np.array(sorted(vectors), dtype=np.int64)
    for asked in (queries[:1], queries):
        scores, found = index.search(asked, k)
        matrix = np.array([vectors[row] for row in rows], dtype=np.float32).reshape(len(rows), queries.shape[1])
        expected, places = top_k(asked, matrix, k)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        # Where another row was found its score is the same but for rounding, so these two may change places.
        other = found != rows[places]
        own = [
            asked[query] @ vectors[row] for query, row in zip(np.nonzero(other)[0], found[other].tolist(), strict=True)
        ]
        np.testing.assert_allclose(own, expected[other], atol=1e-6)
        assert all(len(set(line)) == len(line) for line in found.tolist())


def test_exact_index_is_top_k() -> None:
    generator = np.random.default_rng(0)
    vectors, queries = generator.standard_normal((40, 6)), generator.standard_normal((3, 6))
    index = ExactIndex(vectors)
    assert isinstance(index, VectorIndex)
    assert (len(index), index.dimension, index.storage) == (40, 6, "float32")
    for found, expected in zip(index.search(queries, 7), top_k(queries, vectors, 7), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("on_disk", [False, True])
def test_every_storage_gives_the_exact_result(storage: str, on_disk: bool, tmp_path: Path) -> None:
    vectors = _clustered(600)
    given_vectors = _mapped(tmp_path / "v.npy", vectors) if on_disk else vectors
    _assert_finds(ExactIndex(given_vectors, storage), dict(enumerate(vectors)))


@pytest.mark.parametrize("storage", STORAGES)
def test_equal_vectors_come_by_the_smaller_row(storage: str) -> None:
    vectors = np.repeat(_clustered(3), 50, axis=0)
    scores, rows = ExactIndex(vectors, storage).search(vectors[60:61], 5)
    assert rows.tolist() == [[50, 51, 52, 53, 54]]
    assert len(set(scores[0].tolist())) == 1


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_without_originals_scores_are_those_of_what_is_stored(storage: str) -> None:
    vectors, queries = _clustered(400), _clustered(15, seed=5)
    index = ExactIndex(vectors, storage, keep_originals=False)
    stored = index._storage.decode(index._storage.encode(vectors))
    for asked in (queries[:1], queries):
        scores, rows = index.search(asked, 9)
        expected, expected_rows = top_k(asked, stored, 9)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        np.testing.assert_array_equal(rows, expected_rows)


def test_rescore_limits_the_vectors_read(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = _clustered(600), _clustered(15, seed=5)
    index = ExactIndex(vectors, "int8", rescore=3)
    read, exact = [], index._segments.exact

    def counted(positions: NDArray[np.int64]) -> NDArray[np.float32]:
        read.append(len(positions))
        return exact(positions)

    monkeypatch.setattr(index._segments, "exact", counted)
    rows = index.search(queries, 10)[1]
    assert read == [15 * 30]
    expected = top_k(queries, vectors, 10)[1]
    shared = [len(set(one) & set(other)) for one, other in zip(rows.tolist(), expected.tolist(), strict=True)]
    assert 9 < np.mean(shared) < 10
    np.testing.assert_array_equal(ExactIndex(vectors, rescore=3).search(queries, 10)[1], expected)


def test_given_half_floats_are_searched_as_they_are() -> None:
    half = _clustered(100).astype(np.float16)
    index = ExactIndex(half, "float16")
    _assert_finds(index, dict(enumerate(half.astype(np.float32))))
    assert index.add(_clustered(2, seed=7)).tolist() == [100, 101]
    assert len(index) == 102


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("on_disk", [False, True])
@given(seed=st.integers(0, 1000))
def test_a_living_corpus_keeps_its_rows(
    storage: str, on_disk: bool, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    generator = np.random.default_rng(seed)
    first = _clustered(int(generator.integers(0, 40)), seed)
    directory = tmp_path_factory.mktemp("corpus")
    on_disk = on_disk and len(first) > 0
    index = ExactIndex(_mapped(directory / "v.npy", first) if on_disk else first.copy(), storage)
    living, next_row = dict(enumerate(first)), len(first)
    for step in range(8):
        if generator.random() < 0.5 or not living:
            new = _clustered(int(generator.integers(0, 12)), 2000 + 8 * seed + step)
            rows = index.add(new)
            assert rows.tolist() == list(range(next_row, next_row + len(new)))
            living |= dict(zip(rows.tolist(), new, strict=True))
            next_row += len(new)
        elif generator.random() < 0.85:
            gone = generator.choice(sorted(living), size=int(generator.integers(0, len(living) + 1)), replace=False)
            index.remove(gone)
            living = {row: vector for row, vector in living.items() if row not in set(gone.tolist())}
        else:
            index.save(directory / "index")
            index = ExactIndex.load(directory / "index")
        assert len(index) == len(living)
        assert index.rows.tolist() == sorted(living)
        _assert_finds(index, living)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_dead_are_dropped_once_they_are_more_than_the_living(storage: str, tmp_path: Path) -> None:
    vectors = _clustered(100)
    index = ExactIndex(vectors.copy(), storage)
    held = index._segments._parts[0]
    index.remove(range(50))
    assert len(held) == 100
    index.remove(50)
    assert len(held) == 49
    mapped = ExactIndex(_mapped(tmp_path / "v.npy", vectors), storage)
    mapped.remove(range(60))
    mapped.remove(range(60, 85))
    # A map that is scanned stays as it is; a copy made from one is thinned out.
    assert len(mapped._segments._parts[0]) == (100 if storage == "float32" else 15)
    _assert_finds(mapped, dict(enumerate(vectors[85:], start=85)))


@pytest.mark.slow
def test_adding_does_not_copy_what_is_there() -> None:
    index = ExactIndex(_clustered(10))
    buffers = set()
    for step in range(200):
        index.add(_clustered(1, seed=step))
        buffers.add(index._segments._parts[1]._stored[0]._buffer.ctypes.data)
    assert len(buffers) < 12


def test_added_vectors_are_the_index_own() -> None:
    new = _clustered(3)
    index = ExactIndex(_clustered(5, seed=1))
    index.add(new)
    expected = index.search(new, 2)[0]
    asked = new.copy()
    new[:] = 0
    np.testing.assert_array_equal(index.search(asked, 2)[0], expected)


def test_no_query_no_document() -> None:
    index = ExactIndex(np.zeros((0, 4), dtype=np.float32), "int8")
    assert index.search(np.zeros((2, 4), dtype=np.float32), 3)[1].shape == (2, 0)
    index.add(np.eye(4))
    assert index.search(np.zeros((0, 4), dtype=np.float32), 3)[1].shape == (0, 3)
    assert index.search(np.eye(4)[:1], 9)[1].tolist() == [[0, 1, 2, 3]]


def test_wrong_vectors_are_refused_and_nothing_is_changed() -> None:
    with pytest.raises(ValueError, match=r"must be \[N, D\], got \[6\]"):
        ExactIndex(np.zeros(6))
    bad = _clustered(20)
    bad[13, 2] = np.nan
    with pytest.raises(ValueError, match="row 13 is not finite as int8"):
        ExactIndex(bad, "int8")
    with pytest.raises(ValueError, match="row 0 is not finite as float16"):
        ExactIndex(np.full((1, 2), 1e6), "float16")
    index = ExactIndex(_clustered(5))
    with pytest.raises(ValueError, match="vectors: row 13 is not finite"):
        index.add(bad)
    with pytest.raises(ValueError, match=r"vectors must be \[n, 24\], got \[2, 3\]"):
        index.add(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"queries must be \[n, 24\], got \[3\]"):
        index.search(np.zeros(3), 1)
    with pytest.raises(ValueError, match="queries: row 0 is not finite"):
        index.search(np.full((1, 24), 1e300), 1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        index.search(bad[:1], 0)
    for rows in ([5], [0, -1], [0, 99]):
        with pytest.raises(ValueError, match=f"row {max(rows, key=abs)} is not among the 5 documents"):
            index.remove(rows)
    assert index.rows.tolist() == [0, 1, 2, 3, 4]
    index.remove([2, 2])
    with pytest.raises(ValueError, match="row 2 is not among the 4"):
        index.remove([1, 2])
    assert len(index) == 4


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="unknown storage 'int4'"):
        ExactIndex(_clustered(2), "int4")
    with pytest.raises(InputError, match="rescore = 0"):
        ExactIndex(_clustered(2), "int8", rescore=0)
