"""Search over one corpus: by query vector, or by query vector and BM25 together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix
from jasper_rag.retrieval.fusion import fused_top_k
from jasper_rag.retrieval.lexical import LexicalIndex


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
