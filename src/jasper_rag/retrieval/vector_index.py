"""The seam to any vector search, and the exact one, which needs no approximation up to some million documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jasper_rag.errors import InputError
from jasper_rag.metrics.best_rows import BestRows, ranked
from jasper_rag.metrics.topk import NO_DOCUMENT, FloatMatrix, RowMatrix, as_float32
from jasper_rag.progress import progress_bar
from jasper_rag.retrieval.vector_files import Tensor, read_index, write_index
from jasper_rag.retrieval.vector_segment import SAVED_ROWS, Segment, Segments
from jasper_rag.retrieval.vector_storage import Arrays, Storage, storage_named

_FACTS = ("storage_name", "rescore", "dimension", "has_originals", "next_row", "longest", "residual")
"""Attributes that `save` writes down."""

_QUERY_BLOCK = 512
_RESCORED_ROWS = 8192


@runtime_checkable
class VectorIndex(Protocol):
    """Anything that finds the documents nearest to query vectors."""

    def search(self, queries: NDArray[Any], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """Search [Q, D]; return scores float32 [Q, k] (descending) and document rows int64 [Q, k].

        Higher is nearer. Where fewer than k documents are found the row is -1, or there are fewer columns.
        """
        ...


class ExactIndex:
    """Exact inner product over all vectors (cosine similarity for unit vectors), for a corpus that lives.

    Rows: the vectors given first are rows 0 to N - 1, `add` counts on from there, and a row keeps its number for
    good: removing, compacting, saving and loading change no other row, and no row is ever given out twice. So ids and
    texts can be kept in a list that is only appended to.

    Storage: "float32" scans the array as given (any float type; a memory map stays on disk). "float16" and "int8" scan
    a copy in memory of 2 or 1 bytes per dimension, and score again with the original vectors, which may be a memory
    map, every candidate that the copy's error bound leaves in question. So the result is that of "float32" in each
    case, unless `rescore` or `keep_originals` says otherwise.

    Searching is safe from several threads at once; adding and removing beside a search is not.

    Args:
        vectors: [N, D], any float type; N may be 0. Finite.
        storage: "float32", "float16" or "int8".
        rescore: Score again this many times k candidates, the best by the stored copy, instead of what the error
            bound calls for: a fixed number of reads per query, but the result is no longer certain to be exact.
        keep_originals: False drops `vectors` where there is a copy. Scores are then those of the stored vectors.

    Raises:
        InputError: For an unknown storage or rescore below 1.
        ValueError: If vectors are not [N, D], or, where they are copied, not finite in that storage.
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        storage: str = "float32",
        *,
        rescore: int | None = None,
        keep_originals: bool = True,
    ) -> None:
        if vectors.ndim != 2:
            raise ValueError(f"vectors must be [N, D], got {list(vectors.shape)}.")
        if rescore is not None and rescore < 1:
            raise InputError(
                f"rescore = {rescore}", remedy="Give a whole number of 1 or more, or leave it out.", field="rescore"
            )
        self._storage, self._storage_name = storage_named(storage, vectors.shape[1]), storage
        self._rescore, self._dimension = rescore, vectors.shape[1]
        self._next_row, self._longest, self._residual = len(vectors), 0.0, 0.0
        self._has_originals = keep_originals and storage not in ("float32", str(vectors.dtype))
        stored = (vectors,) if storage in ("float32", str(vectors.dtype)) else self._encode(vectors)
        originals = vectors if self._has_originals else None
        given = Segment(self._storage, stored, np.arange(len(vectors)), originals)
        self._segments = Segments(given, self._empty_segment())

    def __len__(self) -> int:
        """Documents that can be found."""
        return len(self._segments)

    @property
    def storage(self) -> str:
        """The storage by name."""
        return self._storage_name

    @property
    def dimension(self) -> int:
        """D."""
        return int(self._dimension)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that can be found, int64 [n], ascending."""
        return self._segments.rows

    def search(self, queries: NDArray[Any], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """The k best documents of each query, exact (see the class); ties by the smaller row.

        Args:
            queries: [Q, D], any float type.
            k: At least 1.

        Returns:
            Scores float32 [Q, min(k, n)], descending, and rows int64 of the same shape, n being `len(self)`.

        Raises:
            ValueError: If the shape is wrong, k < 1, or a query or document is not finite.
        """
        queries = self._checked(queries, "queries")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        width = min(k, len(self))
        scores = np.full((len(queries), width), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), width), NO_DOCUMENT, dtype=np.int64)
        for start in range(0, len(queries) if width else 0, _QUERY_BLOCK):
            chunk = slice(start, start + _QUERY_BLOCK)
            scores[chunk], positions = self._search(queries[chunk], width)
            rows[chunk] = self._segments.rows_at(positions)
        return scores, rows

    def add(self, vectors: NDArray[Any]) -> NDArray[np.int64]:
        """Add documents [m, D]; returns their rows, int64 [m], which follow on all rows given out before.

        What is already there is not copied, but for a buffer that doubles when it is full.

        Raises:
            ValueError: If the shape is wrong or a vector is not finite; nothing is added then.
        """
        vectors = self._checked(vectors, "vectors")
        stored = self._encode(vectors)
        rows = np.arange(self._next_row, self._next_row + len(vectors))
        self._segments.append(vectors, stored, rows)
        self._next_row += len(vectors)
        return rows

    def remove(self, rows: ArrayLike) -> None:
        """Remove documents by row.

        They are skipped from now on, and dropped from memory once more are dead than alive. An array given to the
        constructor as a memory map is never copied for that: its dead rows go on costing time, until `save` leaves
        them out.

        Raises:
            ValueError: If a row is not in the index (any more); nothing is removed then.
        """
        self._segments.remove(np.unique(np.asarray(rows, dtype=np.int64)))

    def save(self, directory: str | Path) -> None:
        """Write the living documents into `directory` (made if missing), atomically; rows stay what they are."""
        facts = {name: getattr(self, f"_{name}") for name in _FACTS}
        write_index(directory, facts, list(self._tensors()))

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what `save` wrote. Vectors in float32 stay on disk, as a memory map; a float16 or int8 copy is read.

        Raises:
            InputError: If a file is missing, cut, altered, or of another version.
        """
        found = read_index(directory)
        facts, tensors = found.facts, found.tensors
        storage = _storage_of(facts, tensors, directory)
        index = cls(
            np.zeros((0, facts["dimension"]), dtype=np.float32),
            facts["storage_name"],
            rescore=facts["rescore"],
            keep_originals=facts["has_originals"],
        )
        in_memory = facts["storage_name"] != "float32"
        stored = tuple(np.array(tensors[name]) if in_memory else tensors[name] for name in storage.names)
        saved = Segment(storage, stored, np.array(tensors["rows"]), tensors.get("originals"))
        index._segments = Segments(saved, index._empty_segment())
        index._next_row, index._longest, index._residual = facts["next_row"], facts["longest"], facts["residual"]
        return index

    def _checked(self, vectors: NDArray[Any], what: str) -> FloatMatrix:
        if vectors.ndim != 2 or vectors.shape[1] != self._dimension:
            raise ValueError(f"{what} must be [n, {self._dimension}], got {list(vectors.shape)}.")
        # A copy: torch warns about read-only memory, and a caller may go on writing to what was added.
        with np.errstate(over="ignore"):
            copied = np.array(vectors, dtype=np.float32, order="C")
        bad = np.flatnonzero(~np.isfinite(copied).all(axis=1))
        if len(bad):
            raise ValueError(f"{what}: row {bad[0]} is not finite.")
        return copied

    def _encode(self, vectors: NDArray[Any]) -> Arrays:
        """The stored form; keeps the bounds of what storing loses up to date."""
        empty = self._storage.encode(np.zeros((0, self._dimension), dtype=np.float32))
        stored = tuple(np.empty((len(vectors), *array.shape[1:]), dtype=array.dtype) for array in empty)
        longest, residual = self._longest, self._residual
        with progress_bar(len(vectors), "storing vectors", "vectors") as bar:
            for start in range(0, len(vectors), SAVED_ROWS):
                block = as_float32(vectors[start : start + SAVED_ROWS])
                with np.errstate(invalid="ignore", over="ignore"):
                    encoded = self._storage.encode(block)
                    decoded = self._storage.decode(encoded)
                    lengths = np.linalg.norm(decoded.astype(np.float64), axis=1)
                    residuals = np.linalg.norm(block.astype(np.float64) - decoded, axis=1)
                bad = np.flatnonzero(~np.isfinite(lengths) | ~np.isfinite(residuals))
                if len(bad):
                    raise ValueError(f"vectors: row {start + bad[0]} is not finite as {self._storage_name}.")
                longest, residual = max(longest, float(lengths.max())), max(residual, float(residuals.max()))
                for array, part in zip(stored, encoded, strict=True):
                    array[start : start + SAVED_ROWS] = part
                bar.update(len(block))
        self._longest, self._residual = longest, residual
        return stored

    def _search(self, queries: FloatMatrix, width: int) -> tuple[FloatMatrix, RowMatrix]:
        """Scores and positions (counted over the segments) of the best."""
        best = self._collector(queries, width)
        self._segments.scan(queries, best)
        if not self._rescores:
            return best.top()
        candidates = best.candidates()
        scores = np.empty(len(candidates.row), dtype=np.float32)
        # In the order of the rows: reading a memory map forwards is what disks are good at.
        order = np.argsort(candidates.row, kind="stable")
        for start in range(0, len(order), _RESCORED_ROWS):
            part = order[start : start + _RESCORED_ROWS]
            vectors = self._segments.exact(candidates.row[part])
            scores[part] = np.einsum("ed,ed->e", vectors, queries[candidates.query[part]])
        return ranked(candidates._replace(score=scores), len(queries), width)

    @property
    def _rescores(self) -> bool:
        """Whether scanning gives candidates only."""
        return self._has_originals or self._storage.rounds

    def _collector(self, queries: FloatMatrix, width: int) -> BestRows:
        if not self._rescores:
            return BestRows(len(queries), width)
        if self._rescore is not None:
            return BestRows(len(queries), min(width * self._rescore, len(self)))
        error = self._storage.rounding(queries) * self._longest
        if self._has_originals:
            error += np.linalg.norm(queries.astype(np.float64), axis=1) * self._residual
        # A document may be underrated by the error while the k-th best is overrated by it.
        return BestRows(len(queries), width, (2.001 * error).astype(np.float32))

    def _empty_segment(self) -> Segment:
        nothing = np.zeros((0, self._dimension), dtype=np.float32)
        originals = nothing if self._has_originals else None
        return Segment(self._storage, self._storage.encode(nothing), np.zeros(0, dtype=np.int64), originals)

    def _tensors(self) -> Iterator[Tensor]:
        """What `save` writes, the widest numbers first, so that all lie aligned in the file."""
        count = len(self)
        yield Tensor("rows", (count,), np.dtype(np.int64), [self.rows])
        if self._has_originals:
            yield Tensor("originals", (count, self._dimension), np.dtype(np.float32), self._segments.originals())
        empty = self._storage.encode(np.zeros((0, self._dimension), dtype=np.float32))
        order = sorted(range(len(empty)), key=lambda place: -empty[place].dtype.itemsize)
        for place in order:
            name, like = self._storage.names[place], empty[place]
            yield Tensor(name, (count, *like.shape[1:]), like.dtype, self._segments.stored(place))


def _storage_of(facts: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], directory: str | Path) -> Storage:
    """The storage a saved index is in, or InputError if what was saved is no index."""
    if set(facts) == set(_FACTS):
        storage = storage_named(facts["storage_name"], facts["dimension"])
        wanted = {"rows", *storage.names} | ({"originals"} if facts["has_originals"] else set())
        if set(tensors) == wanted and len({len(tensor) for tensor in tensors.values()}) == 1:
            return storage
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    raise InputError(
        f"tensors {shapes} with {dict(facts)} do not make an index", remedy="Build the index again.", path=directory
    )
