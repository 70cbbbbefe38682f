"""The topics of a saved model as people meet them: listed, and offered for a question."""

from __future__ import annotations

from dataclasses import dataclass

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.models.topic_router import likeliest
from jasper_rag.models.topics import OFFERED, Topics
from jasper_rag.retrieval.topic_search import route
from jasper_rag.serving.model_search import moved_questions
from jasper_rag.serving.saved_model import SavedModel


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
    topics, listed = topics_of(model), listed_topics(model)
    weights = route(moved_questions(model, questions), model.vectors, topics, model.routing.router)
    best = likeliest(weights, most)
    return [[(listed[topic], float(row[topic])) for topic in chosen] for row, chosen in zip(weights, best, strict=True)]
