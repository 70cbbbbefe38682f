"""The seam to any vector search, and the exact one."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from jasper_rag.metrics.topk import FloatMatrix, RowMatrix, top_k


@runtime_checkable
class VectorIndex(Protocol):
    """Anything that finds the documents nearest to query vectors."""

    def search(self, queries: NDArray[Any], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """Search [Q, D]; return scores float32 [Q, k] (descending) and document rows int64 [Q, k].

        Higher is nearer. Where fewer than k documents are found the row is -1, or there are fewer columns.
        """
        ...


class ExactIndex:
    """Exact inner product over all vectors (cosine similarity for unit vectors).

    Args:
        vectors: [N, D], any float type; kept as given, so a memory map stays on disk.
    """

    def __init__(self, vectors: NDArray[Any]) -> None:
        if vectors.ndim != 2:
            raise ValueError(f"vectors must be [N, D], got {list(vectors.shape)}.")
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: NDArray[Any], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """The k best documents of each query, by `top_k`: min(k, N) columns."""
        return top_k(queries, self.vectors, k)
