"""Topics of a corpus: a direction each, what they are called, which document belongs where; routing and steering.

steering towards a centroid c:  s = (c - q) / |c - q|,  0 where |c - q| <= 1e-8
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jasper_rag.errors import InputError
from jasper_rag.metrics.judgements import IntArray, Judgements
from jasper_rag.models.guard import Vectors

OFFERED = 3
"""Topics put before a person."""

_TINY = 1e-8
"""A vector no longer than this has no direction."""

_NEAREST = 3
"""Names put into the message about an unknown topic."""


@dataclass(frozen=True, slots=True)
class Topics:
    """K topics of N documents.

    Args:
        names: K names.
        terms: K lists of telling terms, best first.
        centroids: float32 [K, D], unit rows.
        assignment: int64 [N], the topic of each document.

    Raises:
        ValueError: The parts do not fit together.
    """

    names: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]
    centroids: Vectors
    assignment: NDArray[np.int64]

    def __post_init__(self) -> None:
        counts = (len(self.names), len(self.terms), len(self.centroids))
        if len(set(counts)) != 1 or not self.names or self.centroids.ndim != 2 or self.assignment.ndim != 1:
            raise ValueError(f"topics need as many names, lists of terms and centroids, got {counts}.")
        if len(self.assignment) and not 0 <= self.assignment.min() <= self.assignment.max() < len(self.names):
            raise ValueError(f"documents are assigned to topics outside 0 to {len(self.names) - 1}.")

    def __len__(self) -> int:
        """K, the number of topics."""
        return len(self.names)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Documents of each topic, int64 [K]."""
        return np.bincount(self.assignment, minlength=len(self))

    def nearest(self, directions: Vectors) -> NDArray[np.int64]:
        """The topic of the nearest centroid, ties to the smaller number: int64 [n] for rows [n, D]."""
        found: NDArray[np.int64] = (directions @ self.centroids.T).argmax(axis=1).astype(np.int64)
        return found

    def followed_by(self, directions: Vectors) -> Topics:
        """The same topics over these documents and n more, [n, D], each of which joins the nearest centroid."""
        return replace(self, assignment=np.concatenate([self.assignment, self.nearest(directions)]))

    def select(self, documents: NDArray[np.int64]) -> Topics:
        """The same topics over `documents` (rows), in this order."""
        return replace(self, assignment=self.assignment[documents])

    def find(self, asked: str) -> int:
        """Row of the topic that is meant.

        Args:
            asked: "#3" for the third topic; or a name, or the beginning of only one name, in any case.

        Raises:
            InputError: There is none such, or several; the nearest names are said.
        """
        wanted = asked.strip()
        if wanted.startswith("#"):
            return self._numbered(wanted)
        if wanted in self.names:
            return self.names.index(wanted)
        folded = [name.casefold() for name in self.names]
        exact = [row for row, name in enumerate(folded) if name == wanted.casefold()]
        begun = exact or [row for row, name in enumerate(folded) if wanted and name.startswith(wanted.casefold())]
        if len(begun) == 1:
            return begun[0]
        if begun:
            raise InputError(
                f"{len(begun)} topics begin with {wanted!r}.",
                field="steer",
                remedy=f"Choose one: {self._listed(begun)}.",
            )
        remedy = f"The nearest are {self._listed(self._near(wanted.casefold(), folded))}."
        raise InputError(f"there is no topic {wanted!r}.", field="steer", remedy=remedy)

    def _numbered(self, wanted: str) -> int:
        digits = wanted[1:]
        if digits.isascii() and digits.isdigit() and 1 <= int(digits) <= len(self):
            return int(digits) - 1
        remedy = f"Give #1 to #{len(self)}, such as #1 for {self.names[0]!r}."
        raise InputError(f"there is no topic {wanted!r}.", field="steer", remedy=remedy)

    def _near(self, wanted: str, folded: Sequence[str]) -> list[int]:
        """Names and terms that hold the word first, then names spelled alike, then the largest topics."""
        holding = [row for row, name in enumerate(folded) if wanted and wanted in name]
        holding += [row for row, terms in enumerate(self.terms) if wanted in [term.casefold() for term in terms]]
        alike = [folded.index(name) for name in difflib.get_close_matches(wanted, folded, n=_NEAREST, cutoff=0.4)]
        largest = np.argsort(-self.sizes, kind="stable").tolist()
        return list(dict.fromkeys([*holding, *alike, *largest]))[:_NEAREST]

    def _listed(self, rows: Sequence[int]) -> str:
        shown = ", ".join(f"#{row + 1} {self.names[row]!r}" for row in rows[:_NEAREST])
        return shown + (", ..." if len(rows) > _NEAREST else "")


def steering_towards(questions: Vectors, centroids: Vectors) -> Vectors:
    """Steering vectors s, float32 [Q, D].

    Args:
        questions: [Q, D].
        centroids: [Q, D] or [D].
    """
    difference = (centroids - questions).astype(np.float32)
    lengths = np.linalg.norm(difference, axis=1, keepdims=True)
    steering: Vectors = np.divide(difference, lengths, out=np.zeros_like(difference), where=lengths > _TINY)
    return steering


def steering_to_topics(questions: Vectors, topics: IntArray, centroids: Vectors) -> Vectors:
    """Steering towards one topic per question, float32 [Q, D]; 0 where the topic is -1.

    Args:
        questions: [Q, D].
        topics: int64 [Q].
        centroids: [K, D].
    """
    steering = steering_towards(questions, centroids[topics])
    steering[topics < 0] = 0.0
    return steering


def answer_topics(judgements: Judgements, assignment: NDArray[np.int64]) -> IntArray:
    """Topic of the most relevant document of each question, the first of equals; -1 where none is in the corpus.

    Args:
        judgements: Of Q questions.
        assignment: int64 [N], of each document.
    """
    question = np.repeat(np.arange(len(judgements)), np.diff(judgements.indptr))
    relevant = (judgements.grades > 0) & (judgements.documents >= 0)
    question, documents, grades = question[relevant], judgements.documents[relevant], judgements.grades[relevant]
    order = np.lexsort((np.arange(len(grades)), -grades, question))
    asked, first = np.unique(question[order], return_index=True)
    topics = np.full(len(judgements), -1, dtype=np.int64)
    topics[asked] = assignment[documents[order][first]]
    return topics
