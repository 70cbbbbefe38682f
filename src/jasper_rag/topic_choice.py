"""The topics of a saved model as people meet them: listed, offered for a question, chosen by name, number or words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import OFFERED, Topics, steering_towards
from jasper_rag.saved_model import SavedModel
from jasper_rag.training.predictor_training import predict

_LOG = logging.getLogger(__name__)

_FORMS = "Write topic:NAME (its beginning is enough), #NUMBER, or text:SOME WORDS."


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a corpus.

    Args:
        number: From 1; "#3" steers to the third.
        name: What it is called.
        terms: What it is about, most telling first.
        documents: How many belong to it.
    """

    number: int
    name: str
    terms: tuple[str, ...]
    documents: int


@dataclass(frozen=True, slots=True)
class Steer:
    """Where a search is steered to: a topic's name or #number, or words of one's own."""

    kind: Literal["topic", "text"]
    value: str


def parse_steer(steer: str) -> Steer:
    """Read "topic:NAME", "topic:#NUMBER", "#NUMBER" or "text:WORDS".

    Raises:
        InputError: None of these.
    """
    given = steer.strip()
    kind, colon, value = given.partition(":")
    if given.startswith("#"):
        return Steer("topic", given)
    if colon and kind.strip().lower() == "topic" and value.strip():
        return Steer("topic", value.strip())
    if colon and kind.strip().lower() == "text" and value.strip():
        return Steer("text", value.strip())
    raise InputError(f"cannot steer to {steer!r}.", field="steer", remedy=_FORMS)


def topics_of(model: SavedModel) -> Topics:
    """The topics of a model.

    Raises:
        InputError: It has none.
    """
    if model.topics is None:
        remedy = "Run `jasper fit` again, with `topics: {use: true}` and at least two documents that differ."
        raise InputError("this model has no topics.", field="steer", remedy=remedy)
    return model.topics


def listed_topics(model: SavedModel) -> tuple[Topic, ...]:
    """All topics; none for a model without."""
    topics = model.topics
    if topics is None:
        return ()
    sizes = topics.sizes.tolist()
    return tuple(Topic(row + 1, topics.names[row], topics.terms[row], sizes[row]) for row in range(len(topics)))


def offered_topics(model: SavedModel, questions: Vectors, most: int = OFFERED) -> list[list[tuple[Topic, float]]]:
    """What the router offers for unit question vectors [Q, D]: topics with their weights, best first.

    Raises:
        InputError: The model has no topics.
    """
    rows, weights = topics_of(model).offered(predict(model.predictor, questions), most)
    listed = listed_topics(model)
    return [
        [(listed[row], float(weight)) for row, weight in zip(*each, strict=True)]
        for each in zip(rows, weights, strict=True)
    ]


def require_steerable(model: SavedModel, steer: str) -> Steer:
    """The parsed `steer`, before any encoder is loaded.

    Raises:
        InputError: It cannot be read, the model has no topics, or not this one.
    """
    parsed = parse_steer(steer)
    topics = topics_of(model)
    if parsed.kind == "topic":
        topics.find(parsed.value)
    return parsed


def steered_questions(model: SavedModel, questions: Vectors, steer: str, encoder: Callable[[], Encoder]) -> Vectors:
    """The predictions for unit question vectors [Q, D], steered: of unit length [Q, D], neither blended nor gated.

    Args:
        model: Its predictor and topics.
        questions: [Q, D].
        steer: See `parse_steer`.
        encoder: Gives the encoder of the model's vectors; asked where words are steered to.

    Raises:
        InputError: As `require_steerable`, or the encoder cannot be had.
    """
    parsed, topics = require_steerable(model, steer), topics_of(model)
    if not model.predictor.steers:
        _LOG.warning("steering does nothing here: following a topic did not help on this model's dev questions.")
    if parsed.kind == "topic":
        centroid = topics.centroids[topics.find(parsed.value)]
    else:
        # A centroid lies among the documents, so the words are read as one.
        centroid = unit(encoder().encode([parsed.value], "document"))[0]
    return unit(predict(model.predictor, questions, steering_towards(questions, centroid)))
