"""Search of a saved model with query vectors: check them, move them, rank, and say what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix
from jasper_rag.models.guard import unit
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.retrieval.topic_search import preferring_top_k
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.text.records import Document
from jasper_rag.training.predictor_training import predict

Ranker = Literal["hybrid", "dense", "plain"]
"""JASPER with BM25, JASPER alone, or the question alone."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One found document: its rank from 1, the score it was ranked by, and its best passage if it was cut into some."""

    rank: int
    score: float
    document: Document
    passage: str = ""


def require_some(k: int) -> None:
    """Raise InputError for k below 1."""
    if k < 1:
        raise InputError(f"{k} documents were asked for.", field="k", remedy="Give k >= 1.")


def require_words(questions: Sequence[str]) -> None:
    """Raise InputError for an empty question."""
    if not all(question.strip() for question in questions):
        raise InputError("the question is empty.", field="question", remedy="Ask with at least one word.")


def unit_questions(model: SavedModel, query_vectors: Vectors) -> Vectors:
    """Question vectors as float32 [Q, D] of unit length.

    Raises:
        InputError: Another width than the documents'.
    """
    dimension = model.vectors.dimension
    if query_vectors.ndim != 2 or query_vectors.shape[1] != dimension:
        remedy = f"Give an array of shape [questions, {dimension}] from the encoder {model.identity.name}."
        raise InputError(f"question vectors of shape {list(query_vectors.shape)}.", remedy=remedy)
    questions = np.ascontiguousarray(query_vectors, dtype=np.float32)
    if (np.abs(np.linalg.norm(questions, axis=1) - 1.0) > 1e-3).any():
        return unit(questions)
    return questions


def moved_questions(model: SavedModel, questions: Vectors, *, gated: bool = True) -> Vectors:
    """What to search with: float32 [Q, D] unit rows for unit rows; ungated, every one moves by the whole blend."""
    guard = model.serving_guard if gated else model.guard
    return guard.blend(questions, predict(model.predictor, questions), gated=gated)


def usable_ranker(model: SavedModel, ranker: Ranker | None, *, worded: bool, steered: bool) -> Ranker:
    """The ranker that is meant: without one, and where BM25 has nothing to search, what is possible.

    Args:
        model: Has BM25 where its documents have text.
        ranker: What was asked for.
        worded: Whether the questions' texts are given.
        steered: Whether the search is steered.

    Raises:
        InputError: A hybrid search without texts, or a plain one that is steered.
    """
    if ranker == "hybrid" and not worded:
        remedy = 'Give the questions as texts=..., or search with ranker="dense".'
        raise InputError("a hybrid search needs the questions' words.", field="texts", remedy=remedy)
    if ranker == "plain" and steered:
        remedy = "Leave one of them out: the plain encoder knows no topics."
        raise InputError("a plain search cannot be steered.", field="steer", remedy=remedy)
    possible = worded and model.lexical is not None
    if ranker is not None and (possible or ranker == "plain"):
        return ranker
    return "hybrid" if possible else "dense"


def ranked_rows(
    model: SavedModel,
    queries: Vectors,
    k: int,
    ranker: Ranker | None,
    texts: Sequence[str] | None,
    bonus: NDArray[np.float32] | None = None,
) -> tuple[FloatMatrix, RowMatrix]:
    """The k best documents for each query vector: scores float32 [Q, min(k, N)], descending, and rows int64.

    Args:
        model: Its documents, BM25 and weights.
        queries: [Q, D], as they are compared with the documents.
        k: At least 1.
        ranker: "hybrid" adds BM25 where the documents have text, by the model's weight.
        texts: The Q questions; a hybrid search needs them.
        bonus: float32 [N], added to the documents' scores, which are in standard deviations then; None for none.
    """
    retriever = retriever_of(model)
    if bonus is not None:
        return preferring_top_k(retriever, queries, texts if ranker == "hybrid" else None, bonus, k)
    if ranker == "hybrid" and texts is not None:
        return retriever.hybrid(queries, texts, k)
    return retriever.dense(queries, k)


def ranked_hits(
    model: SavedModel,
    queries: Vectors,
    k: int,
    ranker: Ranker | None,
    texts: Sequence[str] | None,
    bonus: NDArray[np.float32] | None = None,
) -> list[list[SearchHit]]:
    """The same with the documents and their best passages; arguments as `ranked_rows`."""
    scores, rows = ranked_rows(model, queries, k, ranker, texts, bonus)
    return [
        [
            SearchHit(rank, float(score), model.documents[row], best_passage(model, queries[place], row))
            for rank, (score, row) in enumerate(zip(scores[place], rows[place], strict=True), start=1)
        ]
        for place in range(len(queries))
    ]


def retriever_of(model: SavedModel) -> HybridRetriever:
    """Search of the model's documents, with the weight of BM25 that ships."""
    return HybridRetriever(model.vectors, model.lexical, model.weights.over(model.openness).jasper)


def best_passage(model: SavedModel, query: Vectors, row: int) -> str:
    """The passage of a document (row) that is nearest to a query [D]; "" where documents were not cut."""
    passages = model.vectors.passages
    if passages is None:
        return ""
    start, end = passages.spans[model.vectors.best_passages(query, np.array([row]))[0]]
    return model.documents[row].text[start:end].strip()
