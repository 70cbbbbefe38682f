"""Exact search by L2 distance among vectors of any length, over the inner-product search of `metrics.topk`.

|q - c|^2 = |q|^2 - 2 (q . c - |c|^2 / 2): the nearest c has the largest inner product with one coordinate more. Rounded
to float32 that only finds candidates; their distances are computed anew in float64, and more candidates are fetched
where rounding leaves the last place in question. So every backend returns the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import RowMatrix, top_k

Backend = Literal["numpy", "torch", "faiss"]
"""What finds the candidates; the result does not depend on it."""

Distances = NDArray[np.float64]

_SPARE = 16
"""Candidates fetched beyond k: mostly enough to be sure of the k-th."""

_MEASURED = 2**22
"""Coordinates whose differences are held at a time, 32 MB."""

_FIRST_ROOM = 64

_PRECISION = Lock()


class Candidates(Protocol):
    """Finds what is probably nearest."""

    def __call__(self, queries: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], RowMatrix]:
        """Inner products float32 [Q, width] of the best living rows, descending, and the rows."""
        ...


class DistanceIndex:
    """Vectors [n, d] that come and go, found by L2 distance. A row keeps its number for good, and none is given twice.

    Args:
        dimension: d.
        backend: "numpy", "torch" (on `device`) or "faiss" (needs the extra of that name).
        device: Of the torch backend.

    Raises:
        InputError: An unknown backend, or faiss is not installed.
    """

    def __init__(self, dimension: int, backend: Backend = "numpy", device: str = "cpu") -> None:
        if backend not in get_args(Backend):
            remedy = f"Choose from {', '.join(get_args(Backend))}."
            raise InputError(f"{backend!r} is not a search backend.", field="backend", remedy=remedy)
        self.dimension, self.backend, self._device = dimension, backend, device
        # One row of the table is one vector and, behind it, -|c|^2 / 2; `_rows` says which number it goes by.
        self._table = np.empty((_FIRST_ROOM, dimension + 1), dtype=np.float32)
        self._rows = np.empty(_FIRST_ROOM, dtype=np.int64)
        self._alive = np.zeros(_FIRST_ROOM, dtype=np.bool_)
        self._used = self._next_row = 0
        self._candidates: Candidates | None = None
        if backend == "faiss":
            self._find()

    def __len__(self) -> int:
        return int(self._alive[: self._used].sum())

    @property
    def next_row(self) -> int:
        """The number that the next vector will go by."""
        return self._next_row

    @property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of the rows that can be found, int64 [n], ascending."""
        return self._rows[: self._used][self._alive[: self._used]]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of `rows`, float32 [n, d]; a copy."""
        return self._table[: self._used][self._alive[: self._used], : self.dimension]

    def add(self, vectors: NDArray[Any]) -> NDArray[np.int64]:
        """Add vectors [m, d]; returns their rows, which follow on all given out before.

        Raises:
            ValueError: The shape is wrong or a vector is not finite; nothing is added then.
        """
        added = self._checked(vectors, "vectors")
        end = self._used + len(added)
        if end > len(self._table):
            self._make_room(end)
        place = slice(self._used, end)
        self._table[place, : self.dimension] = added
        self._table[place, self.dimension] = -0.5 * np.einsum("nd,nd->n", added, added, dtype=np.float64)
        rows = np.arange(self._next_row, self._next_row + len(added))
        self._rows[place], self._alive[place] = rows, True
        self._used, self._next_row, self._candidates = end, self._next_row + len(added), None
        return rows

    def remove(self, rows: ArrayLike) -> None:
        """Remove vectors by row; they leave memory once more are dead than alive.

        Raises:
            ValueError: A row is not in the index (any more); nothing is removed then.
        """
        unwanted = np.unique(np.asarray(rows, dtype=np.int64))
        known = self._rows[: self._used]
        places = np.minimum(np.searchsorted(known, unwanted), max(self._used - 1, 0))
        there = (known[places] == unwanted) & self._alive[places] if self._used else np.zeros(len(unwanted), np.bool_)
        if not there.all():
            raise ValueError(f"row {unwanted[~there][0]} is not in the index.")
        self._alive[places] = False
        self._candidates = None
        if 2 * len(self) < self._used:
            self._compact()

    def search(self, queries: NDArray[Any], k: int) -> tuple[Distances, RowMatrix]:
        """The k nearest of each query [Q, d].

        Returns:
            Distances float64 [Q, min(k, n)], ascending, not squared, and rows int64 of that shape; ties by the smaller
            row.

        Raises:
            ValueError: The shape is wrong, k < 1, or a query is not finite.
        """
        asked = self._checked(queries, "queries")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        width = min(k, len(self))
        distances = np.zeros((len(asked), width), dtype=np.float64)
        rows = np.zeros((len(asked), width), dtype=np.int64)
        unsure, fetched = np.arange(len(asked)), min(width + _SPARE, len(self))
        while width and len(unsure):
            found, nearest, sure = self._nearest(asked[unsure], width, fetched)
            distances[unsure], rows[unsure] = found, nearest
            unsure, fetched = unsure[~sure], min(4 * fetched, len(self))
        return distances, rows

    def _nearest(
        self, queries: NDArray[np.float32], width: int, fetched: int
    ) -> tuple[Distances, RowMatrix, NDArray[np.bool_]]:
        """Distances and rows of the best `width` of `fetched` candidates, and whether no other can be nearer."""
        scores, places = self._find()(np.hstack([queries, np.ones((len(queries), 1), np.float32)]), fetched)
        squared = self._squared_distances(queries, places)
        # Places ascend as rows do.
        order = np.lexsort((places, squared), axis=1)[:, :width]
        best = np.take_along_axis(squared, order, axis=1)
        rows = self._rows[np.take_along_axis(places, order, axis=1)]
        if fetched == len(self):
            return np.sqrt(best), rows, np.ones(len(queries), dtype=np.bool_)
        lengths = (queries.astype(np.float64) ** 2).sum(axis=1)
        # None that was left out has a better score than the last one fetched, as far as scores are right.
        others = lengths - 2.0 * scores[:, -1].astype(np.float64) - self._rounding(lengths)
        return np.sqrt(best), rows, others > best[:, -1]

    def _rounding(self, lengths: Distances) -> Distances:
        """By how much two rounded scores can mislead about squared distances, [Q]; |q|^2 are the `lengths`.

        A sum of m products in float32 is off by at most about m 2^-24 sum |a_i b_i| (Higham 2002, 3.1), and that sum is
        at most |q| |c| + |c|^2 / 2.
        """
        longest = -2.0 * float(self._table[: self._used, self.dimension].min(initial=0.0))
        per_unit = (self.dimension + 3) * 2.0**-24
        return np.asarray(2.0 * per_unit * (np.sqrt(lengths * longest) + longest) + 1e-12)

    def _squared_distances(self, queries: NDArray[np.float32], places: RowMatrix) -> Distances:
        squared = np.empty(places.shape, dtype=np.float64)
        block = max(1, _MEASURED // max(1, places.shape[1] * self.dimension))
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            gaps = self._table[places[part], : self.dimension].astype(np.float64) - queries[part, None]
            squared[part] = np.einsum("qkd,qkd->qk", gaps, gaps)
        return squared

    def _find(self) -> Candidates:
        if self._candidates is None:
            table, alive = self._table[: self._used], self._alive[: self._used]
            if self.backend == "numpy":
                self._candidates = _numpy_candidates(table, alive)
            elif self.backend == "torch":
                self._candidates = _torch_candidates(table, alive, self._device)
            else:
                self._candidates = _faiss_candidates(table, alive)
        return self._candidates

    def _make_room(self, needed: int) -> None:
        room = max(needed, 2 * len(self._table))
        for name in ("_table", "_rows", "_alive"):
            old = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), dtype=old.dtype)
            new[: self._used] = old[: self._used]
            setattr(self, name, new)

    def _compact(self) -> None:
        kept = np.flatnonzero(self._alive[: self._used])
        self._table, self._rows, self._alive = self._table[kept], self._rows[kept], self._alive[kept]
        self._used = len(kept)

    def _checked(self, vectors: NDArray[Any], what: str) -> NDArray[np.float32]:
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"{what} must be [n, {self.dimension}], got {list(vectors.shape)}.")
        with np.errstate(over="ignore"):
            single = np.ascontiguousarray(vectors, dtype=np.float32)
            lengths = np.einsum("nd,nd->n", single, single)
        bad = np.flatnonzero(~np.isfinite(lengths))
        if len(bad):
            raise ValueError(f"{what}: row {bad[0]} is not finite, or too long to be squared.")
        return single


def _numpy_candidates(table: NDArray[np.float32], alive: NDArray[np.bool_]) -> Candidates:
    allowed = None if alive.all() else alive

    def find(queries: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], RowMatrix]:
        return top_k(queries, table, width, allowed=allowed)

    return find


def _torch_candidates(table: NDArray[np.float32], alive: NDArray[np.bool_], device: str) -> Candidates:
    import torch

    living = np.flatnonzero(alive)
    documents = torch.from_numpy(table[living]).to(device)

    def find(queries: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], RowMatrix]:
        block = max(1, 2**26 // max(1, len(documents)))
        scores, rows = np.empty((len(queries), width), np.float32), np.empty((len(queries), width), np.int64)
        with torch.inference_mode(), _full_precision():
            for start in range(0, len(queries), block):
                part = slice(start, start + block)
                best = torch.topk(torch.from_numpy(queries[part]).to(device) @ documents.T, width)
                scores[part], rows[part] = best.values.cpu().numpy(), living[best.indices.cpu().numpy()]
        return scores, rows

    return find


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in float32 whatever the program has set, for the bound on rounding counts on it; a thread at a time."""
    import torch

    with _PRECISION:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def _faiss_candidates(table: NDArray[np.float32], alive: NDArray[np.bool_]) -> Candidates:
    from jasper_rag.retrieval.faiss_index import FaissIndex

    living = np.flatnonzero(alive)
    index = FaissIndex(table[living])

    def find(queries: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], RowMatrix]:
        scores, rows = index.search(queries, width)
        return scores, living[rows]

    return find
