"""What a topic is worth: a split asked without a topic, with the router's, with one a person picks, with the right one.

Steering towards the topic of the answer tells something of the answer. Only `zero` and `predicted` know nothing of it;
`one_click` is what a person (or an agent) gets who recognises the right topic among those offered; `oracle` is an upper
bound. All four are measured twice: of the search as it ships, where documents of the topic are preferred, and of the
prediction alone, ungated and without BM25, moved towards the topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.calibration import expected_calibration_error
from jasper_rag.metrics.ranking import IntArray, evaluate
from jasper_rag.models.guard import unit
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.topic_router import TopicRouter, likeliest
from jasper_rag.models.topics import OFFERED, Topics, answer_topics, steering_to_topics
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.retrieval.topic_search import Preference, preferred_rows, route
from jasper_rag.training.predictor_training import predict

_CUTS = {"ndcg": (10,), "recall": (10,), "mrr": (10,)}

Modes = Mapping[str, Mapping[str, float]]
"""Mode of steering -> "ndcg@10", "recall@10", "mrr@10"."""


@dataclass(frozen=True, slots=True)
class SteeringModes:
    """Figures of one split by mode of steering.

    Args:
        topics: How many there are.
        questions: How many were asked.
        search: Of the search as it ships: "zero", "predicted", "one_click", "oracle".
        modes: The same of the prediction alone.
        accuracy_at_1: Share of questions whose answer is in the router's first topic.
        accuracy_at_3: The same for its first three.
        centroid_accuracy_at_1: Of the topic whose centroid is nearest to the question.
        centroid_accuracy_at_3: The same for the nearest three.
        calibration_error: Of the router's first weight (`metrics.calibration`), in [0, 1].
        inside: "zero", "oracle" -> share of the first ten documents inside the right topic, as the search ships.
    """

    topics: int
    questions: int
    search: Modes
    modes: Modes
    accuracy_at_1: float
    accuracy_at_3: float
    centroid_accuracy_at_1: float
    centroid_accuracy_at_3: float
    calibration_error: float
    inside: Mapping[str, float]

    def to_metrics(self) -> dict[str, Any]:
        """As in `metrics.json` under "steering_modes"."""
        return {
            "topics": self.topics,
            "questions": self.questions,
            "router_accuracy@1": self.accuracy_at_1,
            "router_accuracy@3": self.accuracy_at_3,
            "nearest_centroid_accuracy@1": self.centroid_accuracy_at_1,
            "nearest_centroid_accuracy@3": self.centroid_accuracy_at_3,
            "router_ece": self.calibration_error,
            "inside@10": dict(self.inside),
            "search": {mode: dict(figures) for mode, figures in self.search.items()},
            "modes": {mode: dict(figures) for mode, figures in self.modes.items()},
        }


def steering_modes(
    queries: EmbeddedQueries,
    searched: Vectors,
    predictor: Predictor,
    retriever: HybridRetriever,
    topics: Topics,
    router: TopicRouter,
    bonus: float,
    *,
    follow: bool = False,
) -> SteeringModes:
    """Ask one split in four ways, twice.

    The right topic of a question is that of its most relevant document; a question without one in the corpus is asked
    without steering where the right topic is wanted, and counts as missed by the router.

    Args:
        queries: Q questions and judgements.
        searched: float32 [Q, D], what the search that ships would search with, unsteered.
        predictor: Asked with and without steering.
        retriever: Of the corpus of the topics, with the weight of BM25 that ships.
        topics: Of the documents.
        router: Offers topics.
        bonus: Of documents of the chosen topic, in standard deviations.
        follow: Whether the search that ships also moves towards the chosen topic.
    """
    questions = np.ascontiguousarray(queries.vectors, dtype=np.float32)
    right = answer_topics(queries.judgements, topics.assignment)
    weights = route(searched, retriever.vectors, topics, router)
    offered = likeliest(weights, OFFERED)
    hit = offered == right[:, np.newaxis]
    nearest = likeliest(questions @ topics.centroids.T, OFFERED)
    near = nearest == right[:, np.newaxis]
    chosen: dict[str, IntArray] = {
        "zero": np.full(len(questions), -1),
        "predicted": offered[:, 0],
        "one_click": np.where(hit.any(axis=1), right, -1),
        "oracle": right,
    }
    texts = queries.texts if any(text.strip() for text in queries.texts) else None

    def preferring(choice: IntArray) -> IntArray:
        moved = towards_topics(predictor, questions, searched, choice, topics.centroids) if follow else searched
        return preferred_rows(retriever, moved, texts, topics.assignment, [Preference(choice, bonus)], 10)[0]

    ranked = {mode: preferring(choice) for mode, choice in chosen.items()}
    unsteered = predict(predictor, questions)

    def moved(choice: IntArray) -> Mapping[str, float]:
        steering = steering_to_topics(questions, choice, topics.centroids)
        predictions = predict(predictor, questions, steering) if (choice >= 0).any() else unsteered
        return evaluate(retriever.vectors.top_k(predictions, 10)[1], queries.judgements, _CUTS)

    known = right >= 0
    inside = {
        mode: float((topics.assignment[ranked[mode][known]] == right[known, np.newaxis]).mean()) if known.any() else 0.0
        for mode in ("zero", "oracle")
    }
    return SteeringModes(
        topics=len(topics),
        questions=len(questions),
        search={mode: evaluate(rows, queries.judgements, _CUTS) for mode, rows in ranked.items()},
        modes={mode: moved(choice) for mode, choice in chosen.items()},
        accuracy_at_1=float(hit[:, 0].mean()),
        accuracy_at_3=float(hit.any(axis=1).mean()),
        centroid_accuracy_at_1=float(near[:, 0].mean()),
        centroid_accuracy_at_3=float(near.any(axis=1).mean()),
        calibration_error=expected_calibration_error(weights, right),
        inside=inside,
    )


def towards_topics(
    predictor: Predictor, questions: Vectors, searched: Vectors, choice: IntArray, centroids: Vectors
) -> Vectors:
    """Unit predictions [Q, D] steered to one topic per question; what was searched with where the topic is -1.

    Args:
        predictor: Asked with steering.
        questions: [Q, D].
        searched: [Q, D].
        choice: int64 [Q].
        centroids: [K, D].
    """
    steered = unit(predict(predictor, questions, steering_to_topics(questions, choice, centroids)))
    moved: Vectors = np.where((choice >= 0)[:, np.newaxis], steered, searched)
    return moved
