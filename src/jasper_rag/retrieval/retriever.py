"""Search over one corpus: by query vector, or by query vector and BM25 together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix
from jasper_rag.retrieval.fusion import fused_top_k, score_blocks, weighted, z_normalise
from jasper_rag.retrieval.lexical import LexicalIndex

_BLOCK = 64
"""Questions scored at a time."""


@dataclass(frozen=True, slots=True)
class HybridRetriever:
    """Dense and lexical search of the same N documents.

    Args:
        vectors: Of the documents.
        lexical: BM25 over the same documents, in the same order; None where they have no text.
        weight: Share of BM25 in the fused score, in [0, 1].
    """

    vectors: DocumentVectors
    lexical: LexicalIndex | None
    weight: float

    def dense(self, query_vectors: Vectors, k: int) -> tuple[FloatMatrix, RowMatrix]:
        """By cosine alone: scores float32 [Q, min(k, N)], descending, and document rows int64."""
        return self.vectors.top_k(query_vectors, k)

    def hybrid(self, query_vectors: Vectors, query_texts: Sequence[str], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """By (1 - w) z(cosine) + w z(BM25): scores float32 [Q, min(k, N)], descending, and document rows int64.

        Raises:
            ValueError: There is no BM25.
        """
        if self.lexical is None:
            raise ValueError("a hybrid search needs BM25, and these documents have no text.")
        return fused_top_k(query_vectors, self.vectors, self.lexical, query_texts, self.weight, k)

    def standard_scores(
        self, query_vectors: Vectors, query_texts: Sequence[str] | None
    ) -> Iterator[tuple[FloatMatrix, NDArray[np.int64]]]:
        """All scores, a block of questions at a time: float32 [B, N], and the rows of these B questions.

        z(cosine) of the question's scores over the corpus, or, with texts and BM25, (1 - w) z(cosine) + w z(BM25).
        """
        if query_texts is not None and self.lexical is not None:
            for dense, words, rows in score_blocks(query_vectors, self.vectors, self.lexical, query_texts, _BLOCK):
                yield weighted(dense, words, self.weight), rows
            return
        for start in range(0, len(query_vectors), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(query_vectors)))
            yield z_normalise(self.vectors.inner_products(query_vectors[rows])), rows
