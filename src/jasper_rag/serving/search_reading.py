"""Questions as a saved model searches with them, and the scores of what is found, part by part.

    v = a q + b p,   p = (q - w C) + w C + (p(q, 0) - q) + (p(q, s) - p(q, 0)),   w = routing of v

v is the vector that is searched with: the guard's blend, or, steered by a direction, the prediction alone (a = 0,
b = 1 / |p|). A predictor with subspaces of its own brings its own parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.explain.score_parts import ScoreParts, Scores, blend_scalars, dense_parts, hybrid_parts
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix
from jasper_rag.models.guard import unit
from jasper_rag.models.subspace_predictor import PredictionParts, SubspacePredictor
from jasper_rag.retrieval.topic_search import route
from jasper_rag.serving.model_search import Ranker, retriever_of
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.training.predictor_training import predict


class Reading(NamedTuple):
    """B questions and what a model makes of them.

    Args:
        questions: q, [B, D], unit rows.
        texts: Theirs, or None.
        steering: s, [B, D]; None where no direction is followed.
        unsteered: p(q, 0), [B, D].
        prediction: p(q, s), [B, D].
        a: [B].
        b: [B].
        opened: Share of the prediction in the blend, [B].
        still: What would be searched with unsteered, [B, D].
        searched: v, [B, D].
        weights: w, [B, K]; K is 0 without topics.
        still_weights: The same of `still`.
    """

    questions: Vectors
    texts: Sequence[str] | None
    steering: Vectors | None
    unsteered: Vectors
    prediction: Vectors
    a: Scores
    b: Scores
    opened: Scores
    still: Vectors
    searched: Vectors
    weights: Vectors
    still_weights: Vectors


def read_questions(
    model: SavedModel, ranker: Ranker, questions: Vectors, texts: Sequence[str] | None, steering: Vectors | None
) -> Reading:
    """Read unit questions [B, D] with the steering vectors [B, D] of a search, if any."""
    guard = model.serving_guard
    unsteered = predict(model.predictor, questions)
    prediction = unsteered if steering is None else predict(model.predictor, questions, steering)
    ones: Scores = np.ones(len(questions))
    none: Scores = np.zeros(len(questions))
    if ranker == "plain":
        still, a, b, opened = questions, ones, none, none
    else:
        still = guard.blend(questions, unsteered)
        a, b = blend_scalars(guard, questions, unsteered)
        opened = guard.alpha * (ones if guard.gate is None else guard.gate.openness(questions).astype(np.float64))
    searched = still
    if steering is not None:
        searched, opened = unit(prediction), ones
        a, b = none, 1 / np.maximum(np.linalg.norm(prediction.astype(np.float64), axis=1), 1e-12)
    before = _routed(model, still)
    weights = before if steering is None else _routed(model, searched)
    return Reading(questions, texts, steering, unsteered, prediction, a, b, opened, still, searched, weights, before)


def _routed(model: SavedModel, searched: Vectors) -> Vectors:
    if model.topics is None:
        return np.zeros((len(searched), 0), dtype=np.float32)
    return route(searched, model.vectors, model.topics, model.routing.router)


def score_parts(
    model: SavedModel, ranker: Ranker, asked: Reading, rows: RowMatrix, bonus: NDArray[np.float32] | None
) -> tuple[ScoreParts, Scores]:
    """Parts of the scores of hits (rows, int64 [B, k]), and what a preferred topic adds, float64 [B, k].

    Args:
        model: What was searched.
        ranker: Of the search.
        asked: The questions.
        rows: The hits.
        bonus: float32 [N], what was added to the documents' scores; None for nothing.
    """
    pairs = zip(asked.searched, rows, strict=True)
    nearest = np.stack([model.vectors.best_passages(query, documents) for query, documents in pairs])
    found = dense_parts(
        asked.questions, asked.a, asked.b, _prediction_parts(model, asked), model.vectors.vectors[nearest]
    )
    hybrid = ranker == "hybrid" and asked.texts is not None and model.lexical is not None
    if hybrid or bonus is not None:
        dense: FloatMatrix = model.vectors.inner_products(asked.searched)
        words, weight = np.zeros_like(dense), 0.0
        if hybrid:
            assert model.lexical is not None
            assert asked.texts is not None
            words, weight = model.lexical.scores(asked.texts), retriever_of(model).weight
        found = hybrid_parts(found, dense, words, rows, weight)
    nothing: Scores = np.zeros(rows.shape)
    return found, nothing if bonus is None else bonus[rows].astype(np.float64)


def _prediction_parts(model: SavedModel, asked: Reading) -> PredictionParts:
    questions = torch.from_numpy(np.array(asked.questions))
    if isinstance(model.predictor, SubspacePredictor):
        steering = None if asked.steering is None else torch.from_numpy(np.array(asked.steering))
        return model.predictor.parts(questions, steering)
    weights, unsteered = torch.from_numpy(asked.weights), torch.from_numpy(asked.unsteered)
    coarse = torch.zeros_like(questions)
    if model.topics is not None:
        coarse = weights @ torch.from_numpy(np.array(model.topics.centroids))
    return PredictionParts(
        question=questions - coarse,
        coarse=coarse,
        fine=unsteered - questions,
        steering=torch.from_numpy(asked.prediction) - unsteered,
        routing_weights=weights,
        atypicality=torch.linalg.vector_norm(unsteered - coarse, dim=-1),
    )
