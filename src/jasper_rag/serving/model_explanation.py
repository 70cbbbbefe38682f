"""Why a search of a fitted model returns what it returns: the search again, taken apart.

The scores are taken apart by `search_reading.py`. The counterfactual searches with v - w_k c_k: v the vector that was
searched with, k its likeliest topic, w_k the weight the router gives to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.explain.actionable_signal import NAMED, SignalFacts, actionable_signal
from jasper_rag.explain.score_parts import Scores
from jasper_rag.explain.search_explanation import (
    PARTS,
    Counterfactual,
    HitExplanation,
    SearchExplanation,
    SimilarPair,
    TopicShare,
)
from jasper_rag.explain.xai_output import told_apart
from jasper_rag.metrics.topk import RowMatrix
from jasper_rag.models.topic_router import atypicality_quantile, relative_atypicality
from jasper_rag.serving.model_search import (
    Ranker,
    best_passage,
    ranked_rows,
    require_some,
    require_words,
    unit_questions,
    usable_ranker,
)
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.serving.search_reading import Reading, read_questions, score_parts
from jasper_rag.serving.steering_choice import (
    Steer,
    Steering,
    followed_places,
    preference,
    require_steerable,
    steering_of,
)
from jasper_rag.text.records import Document

SIMILAR = 5
"""Known questions shown."""

_BLOCK = 64
"""Questions whose scores over the whole corpus are in memory at a time."""

_NO_TOPICS = "This model has no topics: what the question is about, and how usual it is, cannot be told."


class _Search(NamedTuple):
    """What is the same for all questions of a call; `bonus` is float32 [N], or None where no topic is preferred."""

    model: SavedModel
    k: int
    ranker: Ranker
    bonus: NDArray[np.float32] | None
    names: tuple[str, ...]
    documents: dict[str, Document]

    def rows(self, searched: Vectors, texts: Sequence[str] | None) -> RowMatrix:
        return ranked_rows(self.model, searched, self.k, self.ranker, texts, self.bonus)[1]


def explain_texts(
    model: SavedModel,
    questions: Sequence[str],
    encoder: Callable[[], Encoder],
    k: int = 10,
    ranker: Ranker = "hybrid",
    steer: Steering | None = None,
    strength: float = 1.0,
) -> list[SearchExplanation]:
    """Explain searches for questions in words; arguments and errors as `Jasper.search`."""
    require_some(k)
    require_words(questions)
    if not questions:
        return []
    places = require_steerable(model, steer, strength)
    usable = usable_ranker(model, ranker, worded=True, steered=steer is not None)
    vectors = unit_questions(model, encoder().encode(list(questions), "query"))
    return explain_questions(model, vectors, questions, k, usable, places, strength, encoder)


def explain_questions(
    model: SavedModel,
    questions: Vectors,
    texts: Sequence[str] | None,
    k: int,
    ranker: Ranker,
    places: Sequence[Steer],
    strength: float,
    encoder: Callable[[], Encoder],
) -> list[SearchExplanation]:
    """Explain a search for each of Q questions.

    Args:
        model: Its topics, router and known pairs make the explanation fuller; a model without them is explained too.
        questions: float32 [Q, D], unit rows.
        texts: The Q questions; a hybrid search needs them.
        k: Documents per question, at least 1.
        ranker: From `usable_ranker`.
        places: From `require_steerable`.
        strength: Of the steering.
        encoder: Asked where words are steered to.

    Raises:
        InputError: The encoder cannot be had, or the directions cancel out.
    """
    steering = steering_of(model, questions, encoder, followed_places(model, places), strength)
    names = () if model.topics is None else told_apart(model.topics.names)
    documents = {} if model.known_pairs is None else {document.id: document for document in model.documents}
    search = _Search(model, k, ranker, preference(model, places, strength), names, documents)
    found: list[SearchExplanation] = []
    for start in range(0, len(questions), _BLOCK):
        block = slice(start, start + _BLOCK)
        asked = None if texts is None else texts[block]
        found += _explained(
            search,
            read_questions(model, ranker, questions[block], asked, None if steering is None else steering[block]),
        )
    return found


def _explained(search: _Search, asked: Reading) -> list[SearchExplanation]:
    model = search.model
    scores, rows = ranked_rows(model, asked.searched, search.k, search.ranker, asked.texts, search.bonus)
    parts, bonus = score_parts(model, search.ranker, asked, rows, search.bonus)
    changed = _counterfactuals(search, asked, rows)
    atypicality, quantile = _atypicality(model, asked)
    moved = np.linalg.norm(asked.prediction.astype(np.float64) - asked.unsteered, axis=1)
    influence = _divergence(asked.weights, asked.still_weights)
    signals = _signals(search, asked, rows, quantile, moved)
    known = _similar(search, asked.questions)
    found = []
    for place in range(len(rows)):
        weights = asked.weights[place].astype(np.float64)
        order = np.argsort(-weights, kind="stable").tolist()
        hits = tuple(
            HitExplanation(
                rank=column + 1,
                score=float(scores[place, column]),
                document=model.documents[row],
                passage=best_passage(model, asked.searched[place], row),
                parts={
                    name: float((bonus if name == "topic_bonus" else getattr(parts, name))[place, column])
                    for name in PARTS
                },
            )
            for column, row in enumerate(rows[place].tolist())
        )
        found.append(
            SearchExplanation(
                question="" if asked.texts is None else asked.texts[place],
                ranker=search.ranker,
                hits=hits,
                topics=tuple(TopicShare(row, search.names[row], float(weights[row])) for row in order),
                entropy=_entropy(weights),
                atypicality=None if atypicality is None else float(atypicality[place]),
                atypicality_quantile=None if quantile is None else float(quantile[place]),
                opened=float(asked.opened[place]),
                steering_influence=float(influence[place]),
                steering_shift=float(moved[place]),
                similar_known_pairs=known[place],
                actionable_signal=signals[place],
                counterfactual=changed[place],
                prediction=asked.prediction[place],
            )
        )
    return found


def _counterfactuals(search: _Search, asked: Reading, rows: RowMatrix) -> list[Counterfactual | None]:
    topics = search.model.topics
    if topics is None:
        return [None] * len(rows)
    first = asked.weights.argmax(axis=1)
    share = np.take_along_axis(asked.weights, first[:, np.newaxis], axis=1)
    without = search.rows(asked.searched - share * topics.centroids[first], asked.texts)

    def gone(these: NDArray[np.int64], others: NDArray[np.int64]) -> tuple[tuple[int, Document], ...]:
        missing = np.flatnonzero(~np.isin(these, others)).tolist()
        return tuple((place + 1, search.model.documents[these[place]]) for place in missing)

    return [
        Counterfactual(search.names[topic], gone(now, then), gone(then, now))
        for topic, now, then in zip(first.tolist(), rows, without, strict=True)
    ]


def _atypicality(model: SavedModel, asked: Reading) -> tuple[Vectors | None, Vectors | None]:
    """|v - w C| without steering, and its quantile among usual questions; None where not known."""
    topics = model.topics
    if topics is None:
        return None, None
    rest: Vectors = np.linalg.norm(asked.still - asked.still_weights @ topics.centroids, axis=1)
    if not len(model.routing.usual):
        return rest, None
    relative = relative_atypicality(asked.still, asked.still_weights, topics.centroids)
    return rest, atypicality_quantile(relative, model.routing.usual)


def _signals(search: _Search, asked: Reading, rows: RowMatrix, quantile: Vectors | None, moved: Scores) -> list[str]:
    if search.model.topics is None:
        return [_NO_TOPICS] * len(rows)
    length = np.maximum(np.linalg.norm(asked.unsteered, axis=1), 1e-12)
    names, before = search.names, asked.still_weights.argmax(axis=1).tolist()
    preferred = _preferred(search, asked, rows)
    found = []
    for place, weights in enumerate(asked.weights):
        order = np.argsort(-weights, kind="stable")[:NAMED].tolist()
        facts = SignalFacts(
            names=[names[row] for row in order],
            weights=weights[order].tolist(),
            quantile=None if quantile is None else float(quantile[place]),
            steered=asked.steering is not None,
            unsteered=names[before[place]],
            shift=float(moved[place] / length[place]),
        )
        found.append(" ".join([actionable_signal(facts), *preferred[place]]))
    return found


def _preferred(search: _Search, asked: Reading, rows: RowMatrix) -> list[list[str]]:
    """What preferring topics did to the first k, a sentence for each question; none where none is preferred."""
    if search.bonus is None:
        return [[] for _ in rows]
    others = search._replace(bonus=None).rows(asked.searched, asked.texts)
    came = [int((~np.isin(now, then)).sum()) for now, then in zip(rows, others, strict=True)]
    return [[f"The preferred topic brought in {count} of the {rows.shape[1]} documents."] for count in came]


def _similar(search: _Search, questions: Vectors) -> list[tuple[SimilarPair, ...]]:
    pairs = search.model.known_pairs
    if pairs is None:
        return [() for _ in questions]

    def pair(row: int, cosine: float) -> SimilarPair:
        known = pairs.questions[row]
        return SimilarPair(
            cosine,
            row,
            known.text,
            known.id,
            tuple(search.documents[key] for key in pairs.sources[row] if key in search.documents),
        )

    rows, cosines = pairs.nearest(questions, SIMILAR)
    return [
        tuple(pair(row, cosine) for row, cosine in zip(*both, strict=True))
        for both in zip(rows.tolist(), cosines.tolist(), strict=True)
    ]


def _entropy(weights: NDArray[Any]) -> float:
    some = weights[weights > 0]
    return float(-(some * np.log(some)).sum())


def _divergence(weights: Vectors, reference: Vectors) -> Scores:
    """KL(weights || reference) in nats, float64 [B]; 0 where they are equal."""
    tiny = np.finfo(np.float32).tiny
    first, second = (np.maximum(each.astype(np.float64), tiny) for each in (weights, reference))
    found: Scores = np.maximum((first * np.log(first / second)).sum(axis=1), 0.0)
    return found
