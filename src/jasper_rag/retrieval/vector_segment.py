"""Runs of stored vectors with their rows: what an exact index scans, grows and thins out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.metrics.best_rows import NO_DOCUMENT, BestRows
from jasper_rag.metrics.topk import FloatMatrix, as_float32, block_rows
from jasper_rag.retrieval.vector_storage import Arrays, Storage

SAVED_ROWS = 8192
"""Vectors handled at a time where a whole segment is encoded or written."""


class GrowingArray:
    """An array that is appended to in amortised constant time per row.

    Args:
        array: What it starts with; not copied until the first append.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._buffer, self._length = array, len(array)

    @property
    def rows(self) -> NDArray[Any]:
        """The rows so far, a view."""
        return self._buffer[: self._length]

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows at the end; doubles the buffer when it is full."""
        end = self._length + len(rows)
        if end > len(self._buffer):
            larger = np.empty((max(end, 2 * self._length), *self._buffer.shape[1:]), dtype=self._buffer.dtype)
            larger[: self._length] = self.rows
            self._buffer = larger
        self._buffer[self._length : end] = rows
        self._length = end


class Segment:
    """n stored vectors, their rows in the index (ascending), and which of them live.

    Args:
        storage: How the vectors are stored.
        stored: Their stored form, one entry per vector.
        rows: int64 [n], ascending.
        originals: [n, D] to score candidates with, possibly a memory map; None where the stored form serves.
    """

    def __init__(
        self, storage: Storage, stored: Arrays, rows: NDArray[np.int64], originals: NDArray[Any] | None
    ) -> None:
        self._storage = storage
        self._stored = tuple(GrowingArray(array) for array in stored)
        self._originals = None if originals is None else GrowingArray(originals)
        # Where each vector lies in a memory map of originals that has been thinned out; None: in order.
        self._places: NDArray[np.int64] | None = None
        self._rows = GrowingArray(rows)
        self._alive = GrowingArray(np.ones(len(rows), dtype=np.bool_))
        self._dead = 0

    def __len__(self) -> int:
        """Vectors held, dead ones included."""
        return len(self._rows.rows)

    @property
    def living(self) -> int:
        """Vectors that can be found."""
        return len(self) - self._dead

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each vector held, int64 [n], ascending."""
        return self._rows.rows

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Which vectors live, bool [n]."""
        return self._alive.rows

    def append(self, vectors: FloatMatrix, stored: Arrays, rows: NDArray[np.int64]) -> None:
        """Add vectors at the end; a segment whose originals lie on disk takes none."""
        for array, new in zip(self._stored, stored, strict=True):
            array.append(new)
        if self._originals is not None:
            self._originals.append(vectors)
        self._rows.append(rows)
        self._alive.append(np.ones(len(rows), dtype=np.bool_))

    def holds(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows live here."""
        places = np.minimum(np.searchsorted(self.rows, rows), len(self) - 1)
        found: NDArray[np.bool_] = (self.rows[places] == rows) & self.alive[places] if len(self) else rows < rows
        return found

    def bury(self, rows: NDArray[np.int64]) -> None:
        """Mark living rows of this segment as dead, and drop the dead once they are more than the living."""
        self.alive[np.searchsorted(self.rows, rows)] = False
        self._dead += len(rows)
        if 2 * self._dead > len(self) and not any(_on_disk(array.rows) for array in self._stored):
            self._compact()

    def scan(self, queries: FloatMatrix, best: BestRows, first_position: int) -> None:
        """Offer the scores of all living vectors; positions count from `first_position`."""
        block = min(block_rows(len(queries)), max(len(self), 1))
        buffer = np.empty(len(queries) * block, dtype=np.float32)
        for start in range(0, len(self), block):
            rows = slice(start, min(start + block, len(self)))
            scores = buffer[: len(queries) * (rows.stop - start)].reshape(len(queries), -1)
            self._storage.scores(queries, tuple(array.rows[rows] for array in self._stored), scores)
            if self._dead:
                scores[:, np.flatnonzero(~self.alive[rows])] = -np.inf
            best.add(scores, first_position + start)

    def exact(self, positions: NDArray[np.int64]) -> FloatMatrix:
        """Vectors to score candidates with, float32 [m, D]: the originals, or what the stored form decodes to."""
        if self._originals is None:
            return self._storage.decode(tuple(array.rows[positions] for array in self._stored))
        places = positions if self._places is None else self._places[positions]
        return as_float32(self._originals.rows[places])

    def living_stored(self, array: int) -> Iterator[NDArray[Any]]:
        """The living entries of one stored array, block by block."""
        for places in self._living_places():
            yield self._stored[array].rows[places]

    def living_originals(self) -> Iterator[FloatMatrix]:
        """The living vectors as `exact` gives them, block by block."""
        for places in self._living_places():
            yield self.exact(places)

    def _living_places(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self), SAVED_ROWS):
            yield start + np.flatnonzero(self.alive[start : start + SAVED_ROWS])

    def _compact(self) -> None:
        living = np.flatnonzero(self.alive)
        self._stored = tuple(GrowingArray(array.rows[living]) for array in self._stored)
        if self._originals is not None and _on_disk(self._originals.rows):
            self._places = living if self._places is None else self._places[living]
        elif self._originals is not None:
            self._originals = GrowingArray(self._originals.rows[living])
        self._rows = GrowingArray(self.rows[living])
        self._alive = GrowingArray(np.ones(len(living), dtype=np.bool_))
        self._dead = 0


class Segments:
    """Segments one after the other: positions count over all of them, rows ascend throughout.

    Args:
        given: The first; later vectors go to the second.
        grown: The second.
    """

    def __init__(self, given: Segment, grown: Segment) -> None:
        self._parts = (given, grown)

    def __len__(self) -> int:
        """Vectors that can be found."""
        return sum(part.living for part in self._parts)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that can be found, int64 [n], ascending."""
        return np.concatenate([part.rows[part.alive] for part in self._parts])

    def append(self, vectors: FloatMatrix, stored: Arrays, rows: NDArray[np.int64]) -> None:
        """Add vectors with rows above all others."""
        self._parts[-1].append(vectors, stored, rows)

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Bury rows, each given once; ValueError, and nothing done, if one is not here or dead."""
        held = [part.holds(rows) for part in self._parts]
        missing = rows[~np.logical_or.reduce(held)]
        if len(missing):
            raise ValueError(f"row {missing[0]} is not among the {len(self)} documents of the index.")
        for part, here in zip(self._parts, held, strict=True):
            part.bury(rows[here])

    def scan(self, queries: FloatMatrix, best: BestRows) -> None:
        """Offer the scores of all living vectors, by position."""
        for first, part in self._offsets():
            part.scan(queries, best, first)

    def exact(self, positions: NDArray[np.int64]) -> FloatMatrix:
        """Vectors to score candidates with, float32 [m, D], at positions in ascending order."""
        vectors = []
        for first, part in self._offsets():
            low, high = np.searchsorted(positions, [first, first + len(part)])
            vectors.append(part.exact(positions[low:high] - first))
        return np.concatenate(vectors)

    def rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each position; -1 stays -1."""
        rows = np.full(positions.shape, NO_DOCUMENT, dtype=np.int64)
        for first, part in self._offsets():
            here = (positions >= first) & (positions < first + len(part))
            rows[here] = part.rows[positions[here] - first]
        return rows

    def stored(self, array: int) -> Iterator[NDArray[Any]]:
        """The living entries of one stored array, block by block."""
        for part in self._parts:
            yield from part.living_stored(array)

    def originals(self) -> Iterator[FloatMatrix]:
        """The living vectors as `exact` gives them, block by block."""
        for part in self._parts:
            yield from part.living_originals()

    def _offsets(self) -> Iterator[tuple[int, Segment]]:
        first = 0
        for part in self._parts:
            yield first, part
            first += len(part)


def _on_disk(array: NDArray[Any] | None) -> bool:
    """Whether an array is a view of a memory map; copying from one would pull it into memory."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False
