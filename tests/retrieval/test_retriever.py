from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.metrics.topk import row_top_k
from jasper_rag.retrieval.fusion import weighted
from jasper_rag.retrieval.lexical import LexicalIndex
from jasper_rag.retrieval.retriever import HybridRetriever

TEXTS = [f"word{number % 7} word{number % 5} common" for number in range(30)]
QUESTIONS = [f"word{number % 7} word{number % 3}" for number in range(9)]


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("k", [1, 7, 50])
def test_searches_rank_the_full_scores(weight: float, k: int) -> None:
    generator = np.random.default_rng(0)
    documents, queries = (generator.standard_normal((n, 8)).astype(np.float32) for n in (30, 9))
    lexical = LexicalIndex.build(TEXTS)
    retriever = HybridRetriever(DocumentVectors(documents), lexical, weight)
    dense = queries @ documents.T
    for found, expected in (
        (retriever.dense(queries, k), row_top_k(dense, k)),
        (retriever.hybrid(queries, QUESTIONS, k), row_top_k(weighted(dense, lexical.scores(QUESTIONS), weight), k)),
    ):
        assert found[1].shape == (9, min(k, 30))
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


def test_numbers_that_disagree_are_refused() -> None:
    retriever = HybridRetriever(
        DocumentVectors(np.zeros((3, 2), dtype=np.float32)), LexicalIndex.build(["a", "b"]), 0.5
    )
    with pytest.raises(ValueError, match="3 document vectors for 2 indexed texts"):
        retriever.hybrid(np.zeros((1, 2), dtype=np.float32), ["a"], 1)


def test_passages_are_fused_with_bm25_of_whole_documents() -> None:
    generator = np.random.default_rng(1)
    rows, queries = (generator.standard_normal((n, 8)).astype(np.float32) for n in (90, 9))
    spans = np.zeros((90, 2), dtype=np.int64)
    documents = DocumentVectors(rows, Passages(np.arange(0, 90, 3), spans))
    lexical = LexicalIndex.build(TEXTS)
    retriever = HybridRetriever(documents, lexical, 0.4)
    best = (queries @ rows.T).reshape(9, 30, 3).max(axis=2)
    for found, scores in (
        (retriever.dense(queries, 5), best),
        (retriever.hybrid(queries, QUESTIONS, 5), weighted(best, lexical.scores(QUESTIONS), 0.4)),
    ):
        np.testing.assert_array_equal(found[1], row_top_k(scores, 5)[1])
        np.testing.assert_allclose(found[0], row_top_k(scores, 5)[0], atol=1e-5)


def test_without_text_there_is_a_dense_search_only() -> None:
    retriever = HybridRetriever(DocumentVectors(np.eye(3, dtype=np.float32)), None, 0.0)
    assert retriever.dense(np.eye(3, dtype=np.float32)[1:2], 1)[1].tolist() == [[1]]
    with pytest.raises(ValueError, match="these documents have no text"):
        retriever.hybrid(np.eye(3, dtype=np.float32)[:1], ["a"], 1)
