"""What a topic is worth: a split asked without a topic, with the router's, with one a person picks, with the right one.

Steering towards the topic of the answer tells something of the answer. Only `zero` and `predicted` know nothing of it;
`one_click` is what a person (or an agent) gets who recognises the right topic among those offered; `oracle` is an upper
bound. All four are the prediction alone, ungated and without BM25.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.metrics.ranking import evaluate
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.topics import OFFERED, Topics, answer_topics, steering_to_topics
from jasper_rag.training.predictor_training import predict

_CUTS = {"ndcg": (10,), "recall": (10,), "mrr": (10,)}


@dataclass(frozen=True, slots=True)
class SteeringModes:
    """Figures of one split by mode of steering.

    Args:
        topics: How many there are.
        questions: How many were asked.
        modes: "zero", "predicted", "one_click", "oracle" -> "ndcg@10", "recall@10", "mrr@10".
        accuracy_at_1: Share of questions whose answer is in the router's first topic.
        accuracy_at_3: The same for its first three.
    """

    topics: int
    questions: int
    modes: Mapping[str, Mapping[str, float]]
    accuracy_at_1: float
    accuracy_at_3: float

    def to_metrics(self) -> dict[str, Any]:
        """As in `metrics.json` under "steering_modes"."""
        return {
            "topics": self.topics,
            "questions": self.questions,
            "router_accuracy@1": self.accuracy_at_1,
            "router_accuracy@3": self.accuracy_at_3,
            "modes": {mode: dict(figures) for mode, figures in self.modes.items()},
        }


def steering_modes(
    queries: EmbeddedQueries, documents: DocumentVectors, predictor: JASPERPredictor, topics: Topics
) -> SteeringModes:
    """Ask one split in four ways.

    The router is the cosine of the unsteered prediction with the centroids. The right topic of a question is that of
    its most relevant document; a question without one in the corpus is asked without steering where the right topic is
    wanted, and counts as missed by the router.

    Args:
        queries: Q questions and judgements.
        documents: The corpus of the topics.
        predictor: Asked with and without steering.
        topics: Of the documents.
    """
    questions = np.ascontiguousarray(queries.vectors, dtype=np.float32)
    right = answer_topics(queries.judgements, topics.assignment)
    unsteered = predict(predictor, questions)
    offered = topics.offered(unsteered, OFFERED)[0]
    hit = offered == right[:, np.newaxis]
    picked = np.where(hit.any(axis=1), right, -1)

    def figures(chosen: np.ndarray) -> dict[str, float]:
        steering = steering_to_topics(questions, chosen, topics.centroids)
        predictions = predict(predictor, questions, steering) if (chosen >= 0).any() else unsteered
        return evaluate(documents.top_k(predictions, 10)[1], queries.judgements, _CUTS)

    modes = {
        "zero": figures(np.full(len(questions), -1)),
        "predicted": figures(offered[:, 0]),
        "one_click": figures(picked),
        "oracle": figures(right),
    }
    return SteeringModes(len(topics), len(questions), modes, float(hit[:, 0].mean()), float(hit.any(axis=1).mean()))
