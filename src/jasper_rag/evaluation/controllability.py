"""How far a search can be steered: the share of the first ten documents that lie in the topic that was chosen.

share(strength) = mean over questions and ranks 1..10 of [topic(document) = chosen topic]

Two choices are measured: the right topic of each question, and another one drawn at random, where nothing but the
steering speaks for it. Strength 0 is the unsteered prediction. All are the prediction alone, ungated and without BM25.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.metrics.ranking import IntArray, ndcg
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.topics import Topics, answer_topics, steering_to_topics
from jasper_rag.training.predictor_training import predict

STRENGTHS: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
"""Strengths measured."""

_DEPTH = 10


@dataclass(frozen=True, slots=True)
class ControlFigures:
    """One strength.

    Args:
        right_inside: Share of the first ten inside the right topic, steered there.
        other_inside: Share of the first ten inside another topic, steered there.
        right_ndcg: nDCG@10, steered to the right topic.
        other_ndcg: nDCG@10, steered to the other one: what a wrong choice costs.
    """

    right_inside: float
    other_inside: float
    right_ndcg: float
    other_ndcg: float


@dataclass(frozen=True, slots=True)
class Controllability:
    """Figures of one split by strength.

    Args:
        topics: How many there are.
        questions: How many were asked: those with an answer in the corpus.
        strengths: Strength -> its figures.
    """

    topics: int
    questions: int
    strengths: Mapping[float, ControlFigures]

    def to_metrics(self) -> dict[str, Any]:
        """As plain values; strengths are keys such as "0.5"."""
        return {
            "topics": self.topics,
            "questions": self.questions,
            "strengths": {
                f"{strength:g}": {
                    "inside_right@10": figures.right_inside,
                    "inside_other@10": figures.other_inside,
                    "ndcg@10_right": figures.right_ndcg,
                    "ndcg@10_other": figures.other_ndcg,
                }
                for strength, figures in self.strengths.items()
            },
        }


def controllability(
    queries: EmbeddedQueries,
    documents: DocumentVectors,
    predictor: Predictor,
    topics: Topics,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Controllability:
    """Steer every question of a split to the right topic and to another one, at several strengths.

    The right topic is that of the most relevant document; questions without one in the corpus are left out. A topic of
    fewer than ten documents cannot fill the first ten. Steering vectors are scaled by the strength.

    Args:
        queries: Questions and judgements.
        documents: The corpus of the topics.
        predictor: Asked with steering.
        topics: Of the documents, two or more.
        strengths: Each >= 0.
        seed: Draws the other topics.

    Raises:
        ValueError: There are fewer than two topics, or no question has an answer in the corpus.
    """
    right = answer_topics(queries.judgements, topics.assignment)
    asked = np.flatnonzero(right >= 0)
    if len(topics) < 2 or not len(asked):
        raise ValueError(f"need two topics and a question, got {len(topics)} and {len(asked)}.")
    right = right[asked]
    # 1 to K - 1 places further round the circle of topics: every other topic is as likely.
    further = np.random.default_rng(seed).integers(1, len(topics), size=len(right))
    other = (right + further) % len(topics)
    questions = np.ascontiguousarray(queries.vectors[asked], dtype=np.float32)
    judgements = queries.judgements.select(asked)

    def steered(chosen: IntArray, strength: float) -> tuple[float, float]:
        steering = steering_to_topics(questions, chosen, topics.centroids)
        rows = documents.top_k(predict(predictor, questions, np.float32(strength) * steering), _DEPTH)[1]
        inside = topics.assignment[rows] == chosen[:, np.newaxis]
        return float(inside.mean()), float(ndcg(rows, judgements, _DEPTH).mean())

    figures = {}
    for strength in strengths:
        (right_inside, right_ndcg), (other_inside, other_ndcg) = steered(right, strength), steered(other, strength)
        figures[float(strength)] = ControlFigures(right_inside, other_inside, right_ndcg, other_ndcg)
    return Controllability(len(topics), len(asked), figures)
