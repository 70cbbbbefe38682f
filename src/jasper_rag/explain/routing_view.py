"""What the report shows of routing: sources on a map, questions with their predictions and hits, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.explain.report_markup import clip
from jasper_rag.explain.topic_map import IntArray, Plane, TopicMap, places_of, topic_map
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import Topics

MOST_SOURCES = 20_000
"""Sources on the map; of a larger corpus an even share of each topic, and every hit that is drawn."""

SHOWN_ROUTES = 5
"""Topics kept of a question's routing."""

_LABEL_COLUMNS, _QUESTION_COLUMNS = 60, 300


@dataclass(frozen=True, slots=True)
class RoutedQuestion:
    """A question that can be drawn on the map.

    Args:
        text: As asked, clipped.
        place: Where the question stands on the map.
        predicted: Where its prediction stands.
        hits: Its hits, best first: numbers of sources of the view.
        routes: (topic, probability) of its most likely topics, best first.
        right: Topic of its answer; -1 where that is not known.
    """

    text: str
    place: tuple[float, float]
    predicted: tuple[float, float]
    hits: tuple[int, ...]
    routes: tuple[tuple[int, float], ...]
    right: int

    @property
    def routed(self) -> int:
        """The most likely topic."""
        return self.routes[0][0]


@dataclass(frozen=True, slots=True)
class RoutingView:
    """Topics, sources and questions of one run, ready to draw; every array belongs to the view.

    Args:
        names: K names.
        sizes: Sources of each topic in the whole corpus, K.
        layout: Where discs, and the n drawn sources, lie.
        discs: int64 [k], the topics that have a disc: all with a source; ascending.
        topics: int64 [n], topic of each drawn source.
        labels: n short labels.
        questions: Those that can be drawn.
        confusion: int64 [K, K], questions of the whole split by right topic (row) and first topic of the routing
            (column); questions whose right topic is unknown are left out.
        asked: Questions of the whole split.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    layout: TopicMap
    discs: IntArray
    topics: IntArray
    labels: tuple[str, ...]
    questions: tuple[RoutedQuestion, ...]
    confusion: IntArray
    asked: int


def routing_view(
    document_vectors: Vectors,
    document_labels: Sequence[str],
    topics: Topics,
    question_texts: Sequence[str],
    questions: Vectors,
    predictions: Vectors,
    hits: NDArray[np.int64],
    routing: Vectors,
    right: NDArray[np.int64],
    shown: Sequence[int] | NDArray[np.int64],
) -> RoutingView:
    """Lay out one split's routing.

    Args:
        document_vectors: float32 [N, D], one row per document; may be a memory map, of which only drawn rows are read.
        document_labels: N labels: a title, or how the text begins; clipped here.
        topics: Of the N documents.
        question_texts: Q texts of the split.
        questions: float32 [Q, D].
        predictions: float32 [Q, D], what the sources are searched with.
        hits: int64 [Q, k], rows of the documents found, best first; -1 where there are fewer.
        routing: float32 [Q, K], probability of each topic.
        right: int64 [Q], topic of the answer; -1 unknown.
        shown: Rows of the questions to draw, in the order to list them; the same row once.

    Raises:
        ValueError: Shapes that do not belong together, rows outside their array, or no documents.
    """
    rows = np.asarray(list(dict.fromkeys(np.asarray(shown, dtype=np.int64).tolist())), dtype=np.int64)
    _check(document_vectors, document_labels, topics, question_texts, questions, predictions, hits, routing, right)
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(questions):
        raise ValueError(f"questions to draw outside 0 to {len(questions) - 1}.")
    drawn = _drawn(topics.assignment, hits[rows])
    discs, disc_of = np.unique(topics.assignment[drawn], return_inverse=True)
    vectors, centroids = unit(np.asarray(document_vectors[drawn])), unit(topics.centroids[discs])
    layout = topic_map(vectors, disc_of, centroids)
    asked, found = (
        places_of(unit(np.asarray(each[rows])), layout, vectors, disc_of, centroids)
        for each in (questions, predictions)
    )
    return RoutingView(
        names=topics.names,
        sizes=tuple(topics.sizes.tolist()),
        layout=layout,
        discs=discs,
        topics=topics.assignment[drawn],
        labels=tuple(clip(document_labels[row], _LABEL_COLUMNS) for row in drawn.tolist()),
        questions=tuple(
            RoutedQuestion(
                text=clip(question_texts[row], _QUESTION_COLUMNS),
                place=_pair(asked[number]),
                predicted=_pair(found[number]),
                hits=tuple(np.searchsorted(drawn, hits[row][hits[row] >= 0]).tolist()),
                routes=_routes(routing[row]),
                right=int(right[row]),
            )
            for number, row in enumerate(rows.tolist())
        ),
        confusion=confusion_counts(right, routing.argmax(axis=1), len(topics)),
        asked=len(questions),
    )


def confusion_counts(right: NDArray[np.int64], routed: NDArray[np.int64], count: int) -> IntArray:
    """Questions by right topic (row) and routed topic (column), int64 [count, count]; a right topic of -1 is left out.

    Args:
        right: int64 [Q].
        routed: int64 [Q].
        count: K, how many topics there are.
    """
    known = right >= 0
    counts: IntArray = np.bincount(right[known] * count + routed[known], minlength=count * count).astype(np.int64)
    return counts.reshape(count, count)


def _drawn(assignment: NDArray[np.int64], hits: NDArray[np.int64]) -> IntArray:
    """Rows of the documents on the map, ascending: all, or evenly spaced ones of each topic and every hit."""
    if len(assignment) <= MOST_SOURCES:
        return np.arange(len(assignment))
    needed = np.unique(hits[hits >= 0])
    room = max(MOST_SOURCES - len(needed), 1)
    chosen = [needed]
    for topic in np.unique(assignment).tolist():
        members = np.flatnonzero(assignment == topic)
        dots = max(int(room * len(members) / len(assignment)), 1)
        chosen.append(members[np.linspace(0, len(members) - 1, dots).astype(np.int64)])
    return np.unique(np.concatenate(chosen))


def _routes(probabilities: Vectors) -> tuple[tuple[int, float], ...]:
    best = np.argsort(-probabilities, kind="stable")[:SHOWN_ROUTES]
    return tuple((int(topic), float(probabilities[topic])) for topic in best)


def _pair(place: Plane) -> tuple[float, float]:
    return float(place[0]), float(place[1])


def _check(
    document_vectors: Vectors,
    document_labels: Sequence[str],
    topics: Topics,
    question_texts: Sequence[str],
    questions: Vectors,
    predictions: Vectors,
    hits: NDArray[np.int64],
    routing: Vectors,
    right: NDArray[np.int64],
) -> None:
    documents = {len(document_vectors), len(document_labels), len(topics.assignment)}
    if len(documents) != 1 or not len(document_labels):
        raise ValueError(
            f"vectors, labels and topics of {sorted(documents)} documents; expected equally many, above 0."
        )
    asked = {len(each) for each in (question_texts, questions, predictions, hits, routing, right)}
    if len(asked) != 1:
        raise ValueError(f"arrays of {sorted(asked)} questions; expected equally many.")
    if questions.shape != predictions.shape or questions.shape[1:] != document_vectors.shape[1:]:
        raise ValueError(f"questions {questions.shape} and predictions {predictions.shape} beside documents.")
    if routing.shape[1:] != (len(topics),):
        raise ValueError(f"routing {routing.shape} over {len(topics)} topics.")
    for name, rows, count in (("hits", hits, len(document_labels)), ("right topics", right, len(topics))):
        if rows.size and not -1 <= rows.min() <= rows.max() < count:
            raise ValueError(f"{name} outside -1 to {count - 1}.")
