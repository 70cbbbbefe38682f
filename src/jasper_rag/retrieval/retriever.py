"""Search over one corpus: by query vector, or by query vector and BM25 together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix, top_k
from jasper_rag.retrieval.fusion import fused_top_k
from jasper_rag.retrieval.lexical import LexicalIndex


@dataclass(frozen=True, slots=True)
class HybridRetriever:
    """Dense and lexical search of the same N documents.

    Args:
        vectors: float32 [N, D], unit rows; may be a memory map.
        lexical: BM25 over the same documents, in the same order.
        weight: Share of BM25 in the fused score, in [0, 1].
    """

    vectors: Vectors
    lexical: LexicalIndex
    weight: float

    def dense(self, query_vectors: Vectors, k: int) -> tuple[FloatMatrix, RowMatrix]:
        """By cosine alone: scores float32 [Q, min(k, N)], descending, and document rows int64."""
        return top_k(query_vectors, self.vectors, k)

    def hybrid(self, query_vectors: Vectors, query_texts: Sequence[str], k: int) -> tuple[FloatMatrix, RowMatrix]:
        """By (1 - w) z(cosine) + w z(BM25): scores float32 [Q, min(k, N)], descending, and document rows int64."""
        return fused_top_k(query_vectors, self.vectors, self.lexical, query_texts, self.weight, k)
