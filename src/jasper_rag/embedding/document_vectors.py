"""The vectors of a corpus: one per document, or one per passage of it, searched exactly either way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix, inner_products, row_top_k, top_k

_SCORES = 2**25
"""Passage scores held at a time, 128 MB."""


@dataclass(frozen=True, slots=True)
class Passages:
    """Which passage belongs to which document.

    Args:
        starts: int64 [N], the row of each document's first passage; its others follow. Ascending from 0.
        spans: int64 [M, 2], where a passage begins and ends in the characters of its document's text.
    """

    starts: NDArray[np.int64]
    spans: NDArray[np.int64]

    def counts(self) -> NDArray[np.int64]:
        """Passages of each document, int64 [N]."""
        return np.diff(self.starts, append=len(self.spans))


@dataclass(frozen=True, slots=True)
class DocumentVectors:
    """Vectors of N documents; with passages a document scores as the best of its passages (MaxP, Dai and Callan 2019).

    Args:
        vectors: float32 [M, D], unit rows, may be a memory map: a row per passage, or per document (M = N).
        passages: None where every document is one passage.

    Raises:
        ValueError: The passages do not cover the rows.
    """

    vectors: Vectors
    passages: Passages | None = None

    def __post_init__(self) -> None:
        if self.passages is None:
            return
        starts, spans = self.passages.starts, self.passages.spans
        covered = len(starts) > 0 and starts[0] == 0 and bool((self.passages.counts() > 0).all())
        if spans.shape != (len(self.vectors), 2) or not covered:
            raise ValueError(f"passages {list(spans.shape)} do not cover {len(self.vectors)} vectors.")

    def __len__(self) -> int:
        """N, the number of documents."""
        return len(self.vectors) if self.passages is None else len(self.passages.starts)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def top_k(self, queries: NDArray[Any], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """The k best documents: scores float32 [Q, min(k, N)], descending, rows int64; ties by the smaller row.

        Args:
            queries: [Q, D].
            k: At least 1.
        """
        if self.passages is None:
            return top_k(queries, self.vectors, k)
        block = max(1, _SCORES // len(self.vectors))
        found = [
            row_top_k(self.inner_products(queries[start : start + block]), k)
            for start in range(0, max(len(queries), 1), block)
        ]
        return np.concatenate([scores for scores, _ in found]), np.concatenate([rows for _, rows in found])

    def inner_products(self, queries: NDArray[Any]) -> FloatMatrix:
        """All scores, float32 [Q, N]; for a few queries at a time."""
        scores = inner_products(queries, self.vectors)
        if self.passages is None:
            return scores
        best: FloatMatrix = np.maximum.reduceat(scores, self.passages.starts, axis=1)
        return best

    def best_passages(self, query: NDArray[Any], documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each of `documents` (rows) the row of the passage nearest to one query [D]; int64, same length."""
        if self.passages is None:
            return documents
        rows, owner = self.rows_of(documents)
        scores = self.vectors[rows] @ query
        order = np.lexsort((rows, -scores, owner))
        first = np.searchsorted(owner[order], np.arange(len(documents)))
        best: NDArray[np.int64] = rows[order][first]
        return best

    def rows_of(self, documents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of all passages of `documents` (rows), and for each the place of its document in `documents`."""
        if self.passages is None:
            return documents, np.arange(len(documents))
        counts = self.passages.counts()[documents]
        owner = np.repeat(np.arange(len(documents)), counts)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.passages.starts[documents][owner] + place, owner

    def select(self, documents: NDArray[np.int64]) -> DocumentVectors:
        """The vectors of `documents` (rows), in this order."""
        rows, owner = self.rows_of(documents)
        chosen = np.ascontiguousarray(self.vectors[rows])
        if self.passages is None:
            return DocumentVectors(chosen)
        starts = np.searchsorted(owner, np.arange(len(documents))).astype(np.int64)
        return DocumentVectors(chosen, Passages(starts, self.passages.spans[rows]))

    def as_passages(self, lengths: Sequence[int]) -> DocumentVectors:
        """These whole documents as one passage each; `lengths` are the N texts' characters."""
        places = np.arange(len(self.vectors), dtype=np.int64)
        ends = np.array(lengths, dtype=np.int64)
        return DocumentVectors(self.vectors, Passages(places, np.stack([np.zeros_like(ends), ends], axis=1)))

    def followed_by(self, other: DocumentVectors) -> DocumentVectors:
        """These documents, then those of `other`.

        Raises:
            ValueError: One has passages and the other has not.
        """
        vectors = np.concatenate([self.vectors, other.vectors])
        if self.passages is None and other.passages is None:
            return DocumentVectors(vectors)
        if self.passages is None or other.passages is None:
            raise ValueError("documents with passages cannot be joined to documents without.")
        starts = np.concatenate([self.passages.starts, other.passages.starts + len(self.vectors)])
        return DocumentVectors(vectors, Passages(starts, np.concatenate([self.passages.spans, other.passages.spans])))
