"""faiss behind the seam of `vector_index`: for corpora so large that search has to be approximate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import NO_DOCUMENT, FloatMatrix, RowMatrix, as_float32

_ADDED_ROWS = 65_536


class FaissIndex:
    """A faiss index over the inner product. Needs the extra `faiss`.

    Args:
        vectors: [N, D], any float type; copied, and all at once in float32 where the index must be trained.
        description: What faiss' `index_factory` reads, e.g. "Flat" (exact), "HNSW32", "IVF1024,Flat".

    Raises:
        InputError: If faiss is not installed, or cannot make or train such an index for these vectors.
        ValueError: If vectors are not [N, D].
    """

    def __init__(self, vectors: NDArray[Any], description: str = "Flat") -> None:
        if vectors.ndim != 2:
            raise ValueError(f"vectors must be [N, D], got {list(vectors.shape)}.")
        faiss = _faiss()
        try:
            self._index = faiss.index_factory(vectors.shape[1], description, faiss.METRIC_INNER_PRODUCT)
            if not self._index.is_trained:
                self._index.train(np.ascontiguousarray(as_float32(vectors)))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"faiss cannot make {description!r} for vectors {list(vectors.shape)} ({reason})",
                remedy='Give another index description, such as "Flat".',
                field="description",
            ) from error
        self.add(vectors)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: NDArray[Any]) -> NDArray[np.int64]:
        """Add documents [m, D]; returns their rows, int64 [m], which follow on the last.

        Raises:
            ValueError: If the shape is wrong.
        """
        first = len(self)
        self._check(vectors, "vectors")
        for start in range(0, len(vectors), _ADDED_ROWS):
            self._index.add(np.ascontiguousarray(as_float32(vectors[start : start + _ADDED_ROWS])))
        return np.arange(first, len(self))

    def search(self, queries: NDArray[Any], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """The k documents faiss finds for each query [Q, D].

        Returns:
            Scores float32 [Q, min(k, N)], descending, and rows int64; ties among those found by the smaller row. Where
            faiss finds fewer, row -1 and score -inf.

        Raises:
            ValueError: If the shape is wrong or k < 1.
        """
        self._check(queries, "queries")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        width = min(k, len(self))
        if not width or not len(queries):
            return np.zeros((len(queries), width), dtype=np.float32), np.zeros((len(queries), width), dtype=np.int64)
        scores, rows = self._index.search(np.ascontiguousarray(as_float32(queries)), width)
        scores[rows < 0] = -np.inf
        rows[rows < 0] = NO_DOCUMENT
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _check(self, vectors: NDArray[Any], what: str) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self._index.d:
            raise ValueError(f"{what} must be [n, {self._index.d}], got {list(vectors.shape)}.")


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "this needs faiss, which is not installed", remedy="Install it with: pip install 'jasper-rag[faiss]'"
        ) from error
    return faiss
