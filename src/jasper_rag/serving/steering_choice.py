"""Where a search is steered to: read as people write it, made a direction, and followed by the prediction.

direction c, a unit vector among the documents:
    topic      its centroid
    document   unit(mean of the document's passages)
    keywords   unit(sum_i e(w_i)), each keyword embedded by itself and counted once
    text       unit(e(X) - 0.5 mean_j e(Y_j)) for "about X, not Y_1, not Y_2"; e(X) where nothing is left out
    several    unit(mean of their directions)
s = (c - q) / |c - q|,  prediction = unit(p(q, strength * s)); p = q + qW + strength * sV for a predictor without MLPs.

A search knows which documents belong to a topic and prefers them, by strength * b standard deviations of the question's
scores (`retrieval/topic_search.py`); dev chooses b, and whether the search moves towards the topic as well.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.document_topics import document_directions
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.models.guard import unit
from jasper_rag.models.topics import steering_towards
from jasper_rag.serving.model_search import (
    Ranker,
    SearchHit,
    moved_questions,
    ranked_hits,
    require_some,
    unit_questions,
    usable_ranker,
)
from jasper_rag.serving.saved_model import SavedModel
from jasper_rag.serving.topic_choice import topics_of
from jasper_rag.text.records import Document
from jasper_rag.training.predictor_training import predict

_LOG = logging.getLogger(__name__)

Steering = str | Sequence[str]
"""One place to steer to, as `parse_steer` reads it, or several."""

Kind = Literal["topic", "keywords", "document", "text"]

STRONGEST = 4.0
"""Highest strength; from 2 on, relevance is lost faster than the topic is gained (docs/your_data.md)."""

_APART = 0.5
"""Share of what a text is not about that is taken away from what it is about.

On two dev splits it nearly halves the part of the first ten inside the unwanted topic (.148 -> .081, .122 -> .071) at
much the same nDCG@10 (-.004, +.006). Taking the whole away leaves .061 and .056, for -.022 and +.003.
"""

_TINY = 1e-6
"""A sum of unit vectors no longer than this has no direction."""

_NEAREST = 3
"""Ids put into the message about an unknown document."""

_NEARBY_IDS = 20_000
"""Ids compared by spelling; beyond, it would take longer than the search."""

_FORMS = (
    "Write topic:NAME (its beginning is enough), #NUMBER, keywords:ONE, TWO, document:ID, text:SOME WORDS, "
    "or text:about THIS, not THAT."
)

_NOT = re.compile(r"(?:\s*,\s*(?:but\s+)?not(?:\s+about)?|\s+but\s+not(?:\s+about)?|\s+not\s+about)\s+", re.IGNORECASE)
_ABOUT = re.compile(r"about\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Steer:
    """One place to steer to.

    Args:
        kind: What `value` is.
        value: A topic's name or #number, keywords with commas, a document's id, or words.
        apart: What words are not about.
    """

    kind: Kind
    value: str
    apart: tuple[str, ...] = ()

    @property
    def keywords(self) -> tuple[str, ...]:
        """The value cut at its commas, each keyword once."""
        return tuple(dict.fromkeys(word.strip() for word in self.value.split(",") if word.strip()))


def parse_steer(steer: str) -> Steer:
    """Read "topic:NAME", "topic:#NUMBER", "#NUMBER", "keywords:ONE, TWO", "document:ID", "text:WORDS".

    In words, each ", not Y", " but not Y" or " not about Y" starts something they are not about; "about" at their
    beginning is left out.

    Raises:
        InputError: None of these.
    """
    given = steer.strip()
    if given.startswith("#"):
        return Steer("topic", given)
    name, _, rest = given.partition(":")
    kind = next((kind for kind in get_args(Kind) if kind == name.strip().lower()), None)
    value = rest.strip()
    if kind is None or not value.strip(", "):
        raise InputError(f"cannot steer to {steer!r}.", field="steer", remedy=_FORMS)
    if kind == "text":
        return _words(value)
    return Steer(kind, value)


def _words(value: str) -> Steer:
    about, *apart = (
        _ABOUT.sub("", part.strip(), count=1) if place == 0 else part.strip(" ,")
        for place, part in enumerate(_NOT.split(f" {value}"))
    )
    if not about or not all(apart):
        remedy = "Say what it is about, then what it is not about: text:about branches, not pull requests."
        raise InputError(f"cannot steer to 'text:{value}'.", field="steer", remedy=remedy)
    return Steer("text", about, tuple(apart))


def require_steerable(model: SavedModel, steer: Steering | None, strength: float = 1.0) -> tuple[Steer, ...]:
    """The parsed `steer`, none for None; before any encoder is loaded.

    Raises:
        InputError: It is empty or cannot be read, the model has no topics, or not this topic or document; the strength
            lies outside [0, 4], or is given with nothing to steer to.
    """
    if not 0.0 <= strength <= STRONGEST:  # NaN is outside
        remedy = f"Give 0 (no steering) to {STRONGEST:g}; 1 is what was trained."
        raise InputError(f"a strength of {strength:g}.", field="strength", remedy=remedy)
    if steer is None:
        if strength != 1.0:
            raise InputError("a strength, but nothing to steer to.", field="strength", remedy=_FORMS)
        return ()
    parsed = tuple(parse_steer(each) for each in ([steer] if isinstance(steer, str) else steer))
    if not parsed:
        raise InputError("nothing to steer to.", field="steer", remedy=_FORMS)
    topics = topics_of(model)
    for each in parsed:
        if each.kind == "topic":
            topics.find(each.value)
        if each.kind == "document":
            _find_document(model.documents, each.value)
    return parsed


def asked_questions(
    model: SavedModel,
    questions: Vectors,
    encoder: Callable[[], Encoder],
    places: Sequence[Steer] = (),
    strength: float = 1.0,
    *,
    gated: bool = True,
) -> Vectors:
    """What to search with for unit question vectors [Q, D]: unit rows [Q, D].

    Steered, it is the prediction itself, neither blended nor gated; with nothing to steer to or a strength of 0, what
    the guard makes of the unsteered one.

    Args:
        model: Its predictor, guard and topics.
        questions: [Q, D].
        encoder: Gives the encoder of the model's vectors; asked where words are steered to.
        places: Where to, from `require_steerable`; of several, the mean direction is followed.
        strength: In [0, 4]: scales the steering vector, whose length is 1 in training.
        gated: See `moved_questions`.

    Raises:
        InputError: The encoder cannot be had, or the directions cancel out.
    """
    steering = steering_of(model, questions, encoder, places, strength)
    if steering is None:
        return moved_questions(model, questions, gated=gated)
    return unit(predict(model.predictor, questions, steering))


def steering_of(
    model: SavedModel, questions: Vectors, encoder: Callable[[], Encoder], places: Sequence[Steer], strength: float
) -> Vectors | None:
    """The steering vectors of unit questions, strength * s, float32 [Q, D]; None where nothing is steered.

    Arguments and errors as `asked_questions`.
    """
    if not places or strength == 0:
        return None
    if not model.predictor.steers:
        _LOG.warning("steering does nothing here: following a topic did not help on this model's dev questions.")
    towards = np.stack([direction_of(model, each, encoder) for each in places])
    scaled: Vectors = np.float32(strength) * steering_towards(questions, _one_direction(towards.mean(axis=0)))
    return scaled


def followed_places(model: SavedModel, places: Sequence[Steer]) -> list[Steer]:
    """The places that a search moves towards: all, but for topics where dev gained nothing by it."""
    return [place for place in places if place.kind != "topic" or model.routing.follow]


def found_hits(
    model: SavedModel,
    query_vectors: Vectors,
    k: int,
    ranker: Ranker | None,
    texts: Sequence[str] | None,
    encoder: Callable[[], Encoder],
    steer: Steering | None,
    strength: float,
) -> list[list[SearchHit]]:
    """The k best documents for each of Q vectors; arguments and errors as `Jasper.search_vectors`."""
    require_some(k)
    ranker = usable_ranker(model, ranker, worded=texts is not None, steered=steer is not None)
    places = require_steerable(model, steer, strength)
    questions = unit_questions(model, query_vectors)
    moved = asked_questions(model, questions, encoder, followed_places(model, places), strength)
    bonus = preference(model, places, strength)
    return ranked_hits(model, questions if ranker == "plain" else moved, k, ranker, texts, bonus)


def preference(model: SavedModel, places: Sequence[Steer], strength: float = 1.0) -> NDArray[np.float32] | None:
    """What a search adds to the score of each document, float32 [N], in standard deviations; None for no topic.

    Args:
        model: Its topics.
        places: From `require_steerable`; documents of any of their topics are preferred.
        strength: Scales the bonus that dev chose.
    """
    wanted = [topics_of(model).find(each.value) for each in places if each.kind == "topic"]
    if not wanted or strength == 0:
        return None
    return np.float32(strength * model.routing.bonus) * np.isin(topics_of(model).assignment, wanted)


def direction_of(model: SavedModel, steer: Steer, encoder: Callable[[], Encoder]) -> Vectors:
    """The direction c of the module's equations, float32 [D], of unit length.

    Raises:
        InputError: No such topic or document, the encoder cannot be had, or nothing is left of the words.
    """
    if steer.kind == "topic":
        topics = topics_of(model)
        centroid: Vectors = topics.centroids[topics.find(steer.value)]
        return centroid
    if steer.kind == "document":
        row = _find_document(model.documents, steer.value)
        return _one_direction(document_directions(model.vectors.select(np.array([row])))[0])
    # A centroid lies among the documents, so words are read as one.
    if steer.kind == "keywords":
        return _one_direction(unit(encoder().encode(list(steer.keywords), "document")).mean(axis=0))
    vectors = unit(encoder().encode([steer.value, *steer.apart], "document"))
    about: Vectors = vectors[0]
    return _one_direction(about - _APART * vectors[1:].mean(axis=0)) if steer.apart else about


def _one_direction(total: Vectors) -> Vectors:
    if np.linalg.norm(total) <= _TINY:
        raise InputError("this leads nowhere: its parts cancel out.", field="steer", remedy="Leave a part of it out.")
    direction: Vectors = unit(total[np.newaxis])[0]
    return direction


def _find_document(documents: Sequence[Document], wanted: str) -> int:
    row = next((row for row, document in enumerate(documents) if document.id == wanted), None)
    if row is not None:
        return row
    folded = wanted.casefold()
    near = [each.id for each in islice((each for each in documents if folded in each.id.casefold()), _NEAREST)]
    ids = [each.id for each in documents[:_NEARBY_IDS]]
    near += [*difflib.get_close_matches(wanted, ids, _NEAREST, cutoff=0.4), *ids[:_NEAREST]]
    listed = ", ".join(map(repr, list(dict.fromkeys(near))[:_NEAREST]))
    raise InputError(f"there is no document {wanted!r}.", field="steer", remedy=f"The nearest ids are {listed}.")
