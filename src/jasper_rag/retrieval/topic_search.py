"""Topics and search: which topics a ranking speaks for, and a ranking that prefers some of them.

    score(d) = f(d) + b [topic(d) is chosen],   f = z(cosine), or (1 - w) z(cosine) + w z(BM25) beside BM25

in standard deviations of the question's scores over the corpus. The document vectors know no topics: a preference finds
what a question moved towards a centroid does not, and a wrong one costs no more than b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix, row_top_k
from jasper_rag.models.topic_router import EVIDENCE, TopicRouter
from jasper_rag.models.topics import Topics
from jasper_rag.retrieval.fusion import best_of_blocks
from jasper_rag.retrieval.retriever import HybridRetriever


@dataclass(frozen=True, slots=True)
class Preference:
    """One topic, or none, for each of Q questions.

    Args:
        topics: int64 [Q]; -1 prefers nothing.
        bonus: b, in standard deviations.
    """

    topics: NDArray[np.int64]
    bonus: float


def route(searched: Vectors, documents: DocumentVectors, topics: Topics, router: TopicRouter) -> Vectors:
    """Weights of all topics for the vectors that are searched with: float32 [Q, K], rows summing to 1.

    Args:
        searched: [Q, D].
        documents: The corpus.
        topics: Of its documents.
        router: Temperature and calibration.
    """
    scores, rows = documents.top_k(searched, EVIDENCE)
    return router.probabilities(scores, rows, topics.assignment, len(topics))


def preferring_top_k(
    retriever: HybridRetriever, searched: Vectors, texts: Sequence[str] | None, bonus: NDArray[np.float32], k: int
) -> tuple[FloatMatrix, RowMatrix]:
    """The k best documents where each has a bonus: scores float32 [Q, min(k, N)], descending, and rows int64.

    Args:
        retriever: Of the N documents.
        searched: [Q, D].
        texts: The Q questions; None leaves BM25 out.
        bonus: float32 [N], in standard deviations.
        k: At least 1.
    """
    blocks = (scores + bonus for scores, _ in retriever.standard_scores(searched, texts))
    return best_of_blocks(blocks, len(bonus), k)


def preferred_rows(
    retriever: HybridRetriever,
    searched: Vectors,
    texts: Sequence[str] | None,
    assignment: NDArray[np.int64],
    preferences: Sequence[Preference],
    k: int,
) -> list[RowMatrix]:
    """The k best documents under each of several preferences: int64 [Q, min(k, N)] each; every score is made once.

    Args:
        retriever: Of the N documents.
        searched: [Q, D].
        texts: The Q questions; None leaves BM25 out.
        assignment: int64 [N], the topic of each document.
        preferences: What is preferred.
        k: At least 1.
    """
    found: list[list[RowMatrix]] = [[] for _ in preferences]
    for scores, rows in retriever.standard_scores(searched, texts):
        for preference, ranked in zip(preferences, found, strict=True):
            inside = assignment[np.newaxis] == preference.topics[rows][:, np.newaxis]
            ranked.append(row_top_k(scores + np.float32(preference.bonus) * inside, k)[1])
    none = np.zeros((0, min(k, len(assignment))), dtype=np.int64)
    return [np.concatenate([none, *ranked]) for ranked in found]
