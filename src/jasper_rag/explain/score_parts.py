"""How much of each hit's score comes from what: the question, its subspaces, what training added, steering, words.

With a search vector  v = a q + b p,  p = question + coarse + fine + steering  and a document d:

    v . d  =  [a (q - coarse) + b question] . d  +  (a + b) coarse . d  +  b fine . d  +  b steering . d

A hybrid score  (1 - w) (v . d - mu) / sigma + w z_BM25  has the same parts times (1 - w) / sigma, the words
w z_BM25, and -(1 - w) mu / sigma, the level, which is the same for all documents of a question.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jasper_rag.metrics.topk import FloatMatrix, RowMatrix
from jasper_rag.models.guard import Guard, Vectors
from jasper_rag.models.subspace_predictor import PredictionParts
from jasper_rag.retrieval.fusion import z_normalise

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """Parts of the scores of Q questions' k hits, each float64 [Q, k]; they sum to the score.

    Args:
        question: What the question says beyond its subspaces.
        coarse: What its subspaces say.
        fine: What training added.
        steering: What steering changed.
        words: BM25; 0 in a dense search.
        level: The mean score of the corpus, taken off; 0 in a dense search.
    """

    question: Scores
    coarse: Scores
    fine: Scores
    steering: Scores
    words: Scores
    level: Scores

    @property
    def total(self) -> Scores:
        """The scores, [Q, k]."""
        return self.question + self.coarse + self.fine + self.steering + self.words + self.level


def blend_scalars(
    guard: Guard, questions: Vectors, predictions: Vectors, *, gated: bool = True
) -> tuple[Scores, Scores]:
    """Scalars a and b, [Q] each, with which  a q + b p  is what `Guard.blend` returns.

    Args:
        guard: Its blend and gate.
        questions: [Q, D] unit rows.
        predictions: [Q, D], not scaled.
        gated: As of `Guard.blend`.
    """
    share = np.full(len(questions), guard.alpha, dtype=np.float64)
    if gated and guard.gate is not None:
        share *= guard.gate.openness(questions)
    asked, predicted = questions.astype(np.float64), predictions.astype(np.float64)
    moved = share / np.maximum(np.linalg.norm(predicted, axis=1), 1e-12)
    length = np.linalg.norm((1 - share)[:, None] * asked + moved[:, None] * predicted, axis=1)
    length = np.where(share > 0, np.maximum(length, 1e-12), 1.0)
    return (1 - share) / length, moved / length


def dense_parts(
    questions: Vectors, a: NDArray[np.floating], b: NDArray[np.floating], parts: PredictionParts, documents: Vectors
) -> ScoreParts:
    """Parts of the inner products of search vectors a q + b p with hits.

    Args:
        questions: q, [Q, D].
        a: [Q].
        b: [Q].
        parts: Of the Q predictions p.
        documents: Vectors of each question's hits, [Q, k, D].

    Raises:
        ValueError: Shapes differ.
    """
    count, width = questions.shape
    shapes = (a.shape, b.shape, tuple(parts.coarse.shape), documents.shape[:1] + documents.shape[2:])
    if documents.ndim != 3 or shapes != ((count,), (count,), (count, width), (count, width)):
        raise ValueError(
            f"questions {[count, width]}, a {list(a.shape)}, b {list(b.shape)}, parts {list(parts.coarse.shape)} and "
            f"hits {list(documents.shape)} do not fit: [Q, D], [Q], [Q], [Q, D] and [Q, k, D] are needed."
        )
    of_question, of_prediction = a.astype(np.float64)[:, None], b.astype(np.float64)[:, None]
    question, coarse, fine, steering = (
        part.detach().cpu().numpy().astype(np.float64)
        for part in (parts.question, parts.coarse, parts.fine, parts.steering)
    )
    directions = np.stack(
        [
            of_question * (questions - coarse) + of_prediction * question,
            (of_question + of_prediction) * coarse,
            of_prediction * fine,
            of_prediction * steering,
        ],
        axis=2,
    )
    found = np.matmul(documents.astype(np.float64), directions)
    nothing = np.zeros(found.shape[:2])
    return ScoreParts(found[:, :, 0], found[:, :, 1], found[:, :, 2], found[:, :, 3], words=nothing, level=nothing)


def hybrid_parts(
    dense: ScoreParts, dense_scores: FloatMatrix, lexical_scores: FloatMatrix, rows: RowMatrix, weight: float
) -> ScoreParts:
    """Parts of `retrieval.fusion.weighted` of the same hits.

    Args:
        dense: Their parts of the inner products.
        dense_scores: Inner products with all documents, [Q, N].
        lexical_scores: BM25 of all documents, [Q, N].
        rows: The hits, int64 [Q, k].
        weight: w in [0, 1].

    Raises:
        ValueError: Shapes differ, a row is not in the corpus, or w is out of range.
    """
    if dense_scores.shape != lexical_scores.shape or rows.shape != dense.question.shape:
        raise ValueError(
            f"dense {list(dense_scores.shape)} and lexical {list(lexical_scores.shape)} scores must have one shape, "
            f"and rows {list(rows.shape)} that of the parts {list(dense.question.shape)}."
        )
    if len(rows) != len(dense_scores) or (rows < 0).any() or (rows >= dense_scores.shape[1]).any():
        raise ValueError(f"rows {list(rows.shape)} must point into scores {list(dense_scores.shape)}.")
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight must be in [0, 1], got {weight}.")
    mean, factor = _mean_and_factor(dense_scores)
    share = (1.0 - weight) * factor
    words = weight * np.take_along_axis(z_normalise(lexical_scores), rows, axis=1).astype(np.float64)
    level = np.broadcast_to(-share * mean, rows.shape)
    scaled = {name: getattr(dense, name) * share for name in ("question", "coarse", "fine", "steering")}
    return replace(dense, **scaled, words=words, level=level)


def _mean_and_factor(scores: FloatMatrix) -> tuple[Scores, Scores]:
    """Mean and 1 / sigma of each row, [Q, 1], as `z_normalise` has them; a factor of 0 where all scores are equal."""
    mean = scores.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = np.sqrt(np.square(scores - mean).mean(axis=1, keepdims=True))
    varied = (scores != scores[:, :1]).any(axis=1, keepdims=True) & (spread > 0)
    return mean, np.where(varied, 1 / np.where(varied, spread, 1.0), 0.0)
