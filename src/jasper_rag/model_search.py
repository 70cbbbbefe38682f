"""Search of a saved model with query vectors: check them, move them, rank, and say what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.models.guard import unit
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.saved_model import SavedModel
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


def ranked_hits(
    model: SavedModel, queries: Vectors, k: int, ranker: Ranker | None, texts: Sequence[str] | None
) -> list[list[SearchHit]]:
    """The k best documents for each query vector.

    Args:
        model: Its documents, BM25 and weights.
        queries: [Q, D], as they are compared with the documents.
        k: At least 1.
        ranker: "hybrid" adds BM25 where the documents have text, by the model's weight.
        texts: The Q questions; a hybrid search needs them.
    """
    retriever = HybridRetriever(model.vectors, model.lexical, model.weights.over(model.openness).jasper)
    if ranker == "hybrid" and texts is not None:
        scores, rows = retriever.hybrid(queries, texts, k)
    else:
        scores, rows = retriever.dense(queries, k)
    return [
        [
            SearchHit(rank, float(score), model.documents[row], _passage(model, queries[place], row))
            for rank, (score, row) in enumerate(zip(scores[place], rows[place], strict=True), start=1)
        ]
        for place in range(len(queries))
    ]


def _passage(model: SavedModel, query: Vectors, row: int) -> str:
    passages = model.vectors.passages
    if passages is None:
        return ""
    start, end = passages.spans[model.vectors.best_passages(query, np.array([row]))[0]]
    return model.documents[row].text[start:end].strip()
