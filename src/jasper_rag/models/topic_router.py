"""Routing by evidence: a topic is as likely as its documents are to answer.

    P(d | v) = softmax over the best documents of  v.d / t
    m_k      = sum of P(d | v) over the documents d of topic k
    P(k | v) = (m_k + e)^(1/T) / sum_j (m_j + e)^(1/T)

v is the vector that is searched with, t the temperature of the softmax that the predictor was trained by, T calibrates
(Guo et al. 2017, arXiv 1706.04599, on log m instead of logits). A topic's documents need not lie around their
centroid for this, and the search has found them already: top-1 accuracy on tldr's 64 topics is .63, against .40 of the
nearest centroid and .47 of a trained network (docs/lab_log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from jasper_rag.models.guard import Vectors

EVIDENCE = 100
"""Best documents that say where a question belongs; beyond them the softmax has next to nothing left."""


@dataclass(frozen=True, slots=True)
class TopicRouter:
    """Weights of topics from ranked documents.

    Args:
        temperature: t > 0, divides the scores.
        calibration: T > 0; above 1 less sure, below 1 surer.
        floor: e > 0, what a topic without any document among the best is given.

    Raises:
        ValueError: A number is not above 0.
    """

    temperature: float = 0.03
    calibration: float = 1.0
    floor: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("temperature", "calibration", "floor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")

    def log_mass(self, scores: Vectors, rows: NDArray[np.int64], assignment: NDArray[np.int64], count: int) -> Vectors:
        """log(m_k + e), float32 [Q, K].

        Args:
            scores: [Q, n], of the best documents, descending.
            rows: int64 [Q, n], which these are; negative ones are none.
            assignment: int64 [N], the topic of each document.
            count: K.
        """
        found = rows >= 0
        logits = np.where(found, scores, -np.inf).astype(np.float64) / self.temperature
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.finfo(np.float64).max))
        powers /= np.maximum(powers.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        question = np.broadcast_to(np.arange(len(rows))[:, np.newaxis], rows.shape)
        cells = question[found] * count + assignment[rows[found]]
        mass = np.bincount(cells, weights=powers[found], minlength=len(rows) * count).reshape(len(rows), count)
        logs: Vectors = np.log(mass + self.floor).astype(np.float32)
        return logs

    def probabilities(
        self, scores: Vectors, rows: NDArray[np.int64], assignment: NDArray[np.int64], count: int
    ) -> Vectors:
        """P(k | v), float32 [Q, K], rows summing to 1; arguments as `log_mass`."""
        return softmax(self.log_mass(scores, rows, assignment, count) / self.calibration)


USUAL_BONUS = 1.0
"""Of a chosen topic, where no question could choose it."""


@dataclass(frozen=True, slots=True, eq=False)
class Routing:
    """What a model knows about its topics beside the topics.

    Args:
        router: Calibrated.
        bonus: Of documents of a chosen topic, in standard deviations of a question's scores.
        usual: Ascending float32 [n], relative atypicality of usual questions at evenly spaced quantiles; empty where
            it is not known.
        follow: Whether a search steered to a topic also moves towards its centroid.
    """

    router: TopicRouter = TopicRouter()
    bonus: float = USUAL_BONUS
    usual: Vectors = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    follow: bool = False

    def to_json(self) -> dict[str, float | bool]:
        """The numbers by name, without `usual`."""
        return {**asdict(self.router), "bonus": self.bonus, "follow": self.follow}

    @classmethod
    def from_json(cls, numbers: Mapping[str, float | bool], usual: Vectors) -> Routing:
        """What `to_json` gave, with `usual`."""
        router = TopicRouter(**{name: numbers[name] for name in asdict(TopicRouter())})
        return cls(router, numbers["bonus"], usual, bool(numbers["follow"]))


def likeliest(weights: Vectors, most: int) -> NDArray[np.int64]:
    """The topics with the highest weights, best first, ties by the smaller number: int64 [Q, min(most, K)]."""
    return np.argsort(-weights, axis=1, kind="stable")[:, :most].astype(np.int64)


def softmax(logits: Vectors) -> Vectors:
    """exp(z) / sum exp(z) over the last axis, float32."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Vectors = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def relative_atypicality(searched: Vectors, routing: Vectors, centroids: Vectors) -> Vectors:
    """|v - coarse| / |coarse|, coarse = w C: how much more is particular to a question than its topics say.

    The length of the fine part alone also depends on how vague the topics are: it does not tell questions of another
    field from familiar ones, the ratio does (docs/benchmarks.md).

    Args:
        searched: v, float32 [Q, D], unit rows.
        routing: w, float32 [Q, K].
        centroids: C, float32 [K, D].
    """
    coarse = routing @ centroids
    fine, whole = np.linalg.norm(searched - coarse, axis=1), np.linalg.norm(coarse, axis=1)
    ratio: Vectors = (fine / np.maximum(whole, np.finfo(np.float32).tiny)).astype(np.float32)
    return ratio


def atypicality_quantile(values: Vectors, usual: Vectors) -> Vectors:
    """Share of usual questions that are less atypical, float32 [Q] in [0, 1].

    Args:
        values: `relative_atypicality` of Q questions.
        usual: The same at evenly spaced quantiles of usual ones, ascending.

    Raises:
        ValueError: Nothing is known of usual questions.
    """
    if not len(usual):
        raise ValueError("no usual question to compare with: `usual` is empty.")
    shares: Vectors = np.interp(values, usual, np.linspace(0, 1, len(usual)), left=0.0, right=1.0).astype(np.float32)
    return shares
