"""What routing and steering a fitted model are made of: calibration, the worth of a chosen topic, usual atypicality."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.evaluation.steering_modes import SteeringModes, steering_modes, towards_topics
from jasper_rag.fitting.topic_fitting import FittedTopics
from jasper_rag.metrics.calibration import fit_temperature
from jasper_rag.metrics.ranking import IntArray, ndcg
from jasper_rag.models.guard import Guard
from jasper_rag.models.predictors import Predictor
from jasper_rag.models.topic_router import (
    EVIDENCE,
    USUAL_BONUS,
    Routing,
    TopicRouter,
    likeliest,
    relative_atypicality,
    softmax,
)
from jasper_rag.models.topics import OFFERED, Topics, answer_topics
from jasper_rag.retrieval.retriever import HybridRetriever
from jasper_rag.retrieval.topic_search import Preference, preferred_rows, route
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.training.candidates import Candidates
from jasper_rag.training.predictor_training import predict

_LOG = logging.getLogger(__name__)

BONUSES = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Tried for a chosen topic, in standard deviations; a hard filter would win if nobody ever chose wrongly."""

WRONG_CHOICES = 0.2
"""Share of choices taken to be wrong when the bonus is chosen."""

_RANKINGS, _SCORES = 4 * len(BONUSES), 2_000_000_000
"""Times that a question ranks the corpus to choose the bonus; scores made for it in all, a minute's work."""

_FEWEST_ASKED, _MOST_ASKED = 100, 600
"""Dev questions that choose the bonus; as many as `_SCORES` allows."""

_FEWEST, _MOST_USUAL, _POINTS = 50, 4000, 257
"""Dev questions that are enough to say what is usual; questions looked at; points of the distribution kept."""


def fit_routing(
    embedded: EmbeddedSet,
    candidates: Candidates,
    guard: Guard,
    retriever: HybridRetriever,
    fitted: FittedTopics,
    seed: int,
) -> Routing:
    """Calibrate the router, weigh a chosen topic, and note how atypical questions usually are, all on dev.

    Args:
        embedded: Its train questions stand in where dev has too few to say what is usual.
        candidates: The predictor, and the dev questions.
        guard: Of the search that ships.
        retriever: Of the corpus, with the weight of BM25 that ships.
        fitted: Topics of the documents, and the predictor that follows them.
        seed: Draws samples.
    """
    topics = fitted.topics
    if topics is None:
        return Routing()
    model, dev = fitted.model, candidates.dev
    searched = guard.blend(dev.vectors, predict(model, dev.vectors))
    right = answer_topics(dev.judgements, topics.assignment)
    known = np.flatnonzero(right >= 0)
    router = TopicRouter()
    logits = router.log_mass(*retriever.vectors.top_k(searched, EVIDENCE), topics.assignment, len(topics))
    if len(known):
        router = TopicRouter(router.temperature, fit_temperature(logits[known], right[known]), router.floor)
    weights = softmax(logits / router.calibration)
    if len(dev) < _FEWEST:
        train = embedded.splits["train"].vectors
        like = _sample(guard.blend(train, predict(model, train)), _MOST_USUAL, seed)
        usual = relative_atypicality(like, route(like, retriever.vectors, topics, router), topics.centroids)
    else:
        shown = _sample(np.arange(len(dev)), _MOST_USUAL, seed)
        usual = relative_atypicality(searched[shown], weights[shown], topics.centroids)
    most = min(_MOST_ASKED, max(_FEWEST_ASKED, _SCORES // (_RANKINGS * len(retriever.vectors))))
    curve = _curve(dev, _sample(known, most, seed), searched, retriever, topics, weights, model, right)
    # Of equals the first: it does least.
    follow, bonus = max(curve, key=lambda way: curve[way]) if curve else (False, USUAL_BONUS)
    tried = ", ".join(f"{'moved, ' if way[0] else ''}{way[1]:g}: {value:.3f}" for way, value in curve.items())
    _LOG.info("routing: calibration %.2f; a chosen topic adds %g (dev nDCG@10 by %s)", router.calibration, bonus, tried)
    points = np.quantile(usual, np.linspace(0, 1, _POINTS)).astype(np.float32)
    return Routing(router, bonus, points, follow)


def steering_on(split: str, embedded: EmbeddedSet, model: SavedModel) -> SteeringModes | None:
    """What topics are worth to the questions of a split; None without topics."""
    if model.topics is None:
        return None
    queries = embedded.splits[split]
    return steering_modes(
        queries,
        model.serving_guard.blend(queries.vectors, predict(model.predictor, queries.vectors)),
        model.predictor,
        HybridRetriever(embedded.vectors, model.lexical, model.weights.over(model.openness).jasper),
        model.topics,
        model.routing.router,
        model.routing.bonus,
        follow=model.routing.follow,
    )


def _sample(rows: NDArray[Any], most: int, seed: int) -> NDArray[Any]:
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])]


def _curve(
    dev: EmbeddedQueries,
    asked: NDArray[np.int64],
    searched: Vectors,
    retriever: HybridRetriever,
    topics: Topics,
    weights: Vectors,
    model: Predictor,
    right: IntArray,
) -> dict[tuple[bool, float], float]:
    """(Moved towards the topic?, bonus) -> expected nDCG@10 of choosing one of those offered, one in five wrongly."""
    if not len(asked):
        return {}
    plain, questions, judgements = searched[asked], dev.vectors[asked], dev.judgements.select(asked)
    texts = [dev.texts[row] for row in asked] if any(text.strip() for text in dev.texts) else None
    offered = likeliest(weights[asked], OFFERED)
    hit = offered == right[asked][:, np.newaxis]
    chosen = np.where(hit.any(axis=1), right[asked], -1)
    # A wrong choice is the likeliest of the other topics offered.
    other = np.where(hit[:, 0], offered[:, min(1, offered.shape[1] - 1)], offered[:, 0])
    wrong = np.where(hit.any(axis=1), other, -1)

    def values(choice: IntArray, *, follow: bool) -> list[float]:
        vectors = towards_topics(model, questions, plain, choice, topics.centroids) if follow else plain
        preferences = [Preference(choice, bonus) for bonus in BONUSES]
        ranked = preferred_rows(retriever, vectors, texts, topics.assignment, preferences, 10)
        return [float(ndcg(rows, judgements, 10).mean()) for rows in ranked]

    curve = {}
    for follow in (False, True) if model.steers else (False,):
        rightly, wrongly = values(chosen, follow=follow), values(wrong, follow=follow)
        for place, bonus in enumerate(BONUSES):
            curve[follow, bonus] = (1 - WRONG_CHOICES) * rightly[place] + WRONG_CHOICES * wrongly[place]
    return curve
