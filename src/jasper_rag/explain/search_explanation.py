"""What an explained search says: its topics, its hits part by part, what would change, what is known, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jasper_rag.models.guard import Vectors
from jasper_rag.text.records import Document

PARTS = ("question", "coarse", "fine", "steering", "words", "level", "topic_bonus")
"""What a score is the sum of: what the question says beyond its topics, what its topics say, what training added, what
steering changed, BM25, the mean that is taken off every score alike, and what a preferred topic adds."""

_SHOWN = 120
"""Characters of a source without a title."""

_DECIMALS = 7


@dataclass(frozen=True, slots=True)
class HitExplanation:
    """One hit; `parts` has the keys `PARTS`, and they sum to the score up to rounding."""

    rank: int
    score: float
    document: Document
    passage: str
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TopicShare:
    """A topic: its row, its name (followed by a number where two are equal), and its calibrated probability."""

    row: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class SimilarPair:
    """A known question, its row among those kept, its cosine, and the documents that answer it and are still there."""

    similarity: float
    row: int
    question: str
    question_id: str
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The same search without one topic's contribution to its vector, v - w_k c_k.

    Args:
        topic: Name of the topic.
        leave: Documents of the first k that would not be among them, best first, with their ranks.
        enter: Documents that would come in their place, with the ranks they would have.
    """

    topic: str
    leave: tuple[tuple[int, Document], ...]
    enter: tuple[tuple[int, Document], ...]


@dataclass(frozen=True, slots=True)
class SearchExplanation:
    """Why a search of a fitted model returned what it returned.

    Args:
        question: Its text; "" where only a vector was given.
        ranker: "hybrid", "dense" or "plain".
        hits: Best first.
        topics: All, likeliest first; none for a model without topics.
        entropy: Of their probabilities, in nats; 0 for one topic, log K for no idea.
        atypicality: |v - w C|, what topics do not say of the search vector, without steering; None without topics.
        atypicality_quantile: Share of usual questions that are less atypical, relative to |w C|; None where unknown.
        opened: Share of the prediction in the blend with the question: the guard's a times g; 1 where steering by a
            direction goes past the guard.
        steering_influence: KL(topics with steering || topics without) in nats.
        steering_shift: How far steering moved the prediction, |p(q, s) - p(q, 0)|.
        similar_known_pairs: Most alike first; none where the model keeps none.
        actionable_signal: What to do, in a few sentences.
        counterfactual: What the likeliest topic did; None without topics.
        prediction: p(q, s), float32 [D].
    """

    question: str
    ranker: str
    hits: tuple[HitExplanation, ...]
    topics: tuple[TopicShare, ...]
    entropy: float
    atypicality: float | None
    atypicality_quantile: float | None
    opened: float
    steering_influence: float
    steering_shift: float
    similar_known_pairs: tuple[SimilarPair, ...]
    actionable_signal: str
    counterfactual: Counterfactual | None
    prediction: Vectors = field(repr=False, compare=False)

    @property
    def primary_subspace(self) -> str | None:
        """The likeliest topic; None without topics."""
        return self.topics[0].name if self.topics else None

    @property
    def confidence(self) -> float | None:
        """Its calibrated probability."""
        return self.topics[0].probability if self.topics else None

    def to_dict(self, *, vectors: bool = False) -> dict[str, Any]:
        """Plain values, numbers with 7 decimals; keys as on docs/nn/XAI_INTERFACE.md.

        Args:
            vectors: With `predicted_source_emb`, a list of D numbers.
        """
        in_order = sorted(self.topics, key=lambda topic: topic.row)
        moved = {"predicted_source_emb": np.round(self.prediction.astype(np.float64), _DECIMALS).tolist()}
        return {
            "question": self.question,
            "ranker": self.ranker,
            **(moved if vectors else {}),
            "primary_subspace": self.primary_subspace,
            "primary_subspace_id": self.topics[0].row if self.topics else None,
            "confidence": _rounded(self.confidence),
            "routing_distribution": {topic.name: _rounded(topic.probability) for topic in in_order},
            "routing_entropy": _rounded(self.entropy),
            "steering_influence": _rounded(self.steering_influence),
            "steering_shift": _rounded(self.steering_shift),
            "atypicality": _rounded(self.atypicality),
            "atypicality_quantile": _rounded(self.atypicality_quantile),
            "opened": _rounded(self.opened),
            "similar_known_pairs": [_pair(pair) for pair in self.similar_known_pairs],
            "actionable_signal": self.actionable_signal,
            "hits": [_hit(hit) for hit in self.hits],
            "counterfactual": None if self.counterfactual is None else _counterfactual(self.counterfactual),
        }


def _hit(hit: HitExplanation) -> dict[str, Any]:
    parts = {name: _rounded(value) for name, value in hit.parts.items()}
    found = {"rank": hit.rank, "score": _rounded(hit.score), "id": hit.document.id, "title": hit.document.title}
    return found | ({"passage": hit.passage} if hit.passage else {}) | {"parts": parts}


def _pair(pair: SimilarPair) -> dict[str, Any]:
    source = pair.documents[0] if pair.documents else None
    return {
        "similarity": _rounded(pair.similarity),
        "index": pair.row,
        "question": pair.question,
        "question_id": pair.question_id,
        "source": "" if source is None else source.title or source.text[:_SHOWN],
        "source_id": "" if source is None else source.id,
    }


def _counterfactual(found: Counterfactual) -> dict[str, Any]:
    def listed(ranked: tuple[tuple[int, Document], ...]) -> list[dict[str, Any]]:
        return [{"rank": rank, "id": document.id, "title": document.title} for rank, document in ranked]

    return {"without": found.topic, "leave": listed(found.leave), "enter": listed(found.enter)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
