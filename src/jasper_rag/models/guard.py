"""The guard: how far the prediction may move the question, over all questions and for each one.

    final = normalise( (1 - a g(q)) q + a g(q) p ),   a in [0, 1] chosen on dev,   g(q) in [0, 1] by familiarity

a = 0 or g = 0 is the plain encoder. Arrays are numpy float32: the guard runs at query time, one question at a call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FamiliarityGate:
    """How close a question is to the questions trained on, as a number in [0, 1].

        familiarity f(q) = mean of the `neighbours` highest cosines between q and the bank
        g(q) = clip( (f(q) - low) / (high - low), 0, 1 )

    Args:
        bank: float32 [m, D], unit rows: a sample of the train questions.
        low: Familiarity at which the gate starts to open.
        high: Familiarity from which it is fully open; > low.
        neighbours: How many of the nearest bank questions count.

    Raises:
        ValueError: If `high` is not above `low`, or the bank is empty.
    """

    bank: Vectors
    low: float
    high: float
    neighbours: int = 5

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"the gate needs low < high, got {self.low} and {self.high}.")
        if len(self.bank) == 0 or self.neighbours < 1:
            raise ValueError(f"the gate needs a bank and neighbours, got {len(self.bank)} and {self.neighbours}.")

    def familiarity(self, questions: Vectors) -> Vectors:
        """f(q), float32 [Q], of unit-length questions [Q, D]."""
        return mean_top_cosine(questions, self.bank, self.neighbours)

    def openness(self, questions: Vectors) -> Vectors:
        """g(q), float32 [Q], of unit-length questions [Q, D]."""
        opened: Vectors = np.clip((self.familiarity(questions) - self.low) / (self.high - self.low), 0.0, 1.0)
        return opened.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Guard:
    """The blend a and the gate g.

    Args:
        alpha: a in [0, 1]; 0 ships the plain encoder.
        gate: None leaves every question fully open.

    Raises:
        ValueError: If alpha is outside [0, 1].
    """

    alpha: float
    gate: FamiliarityGate | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}.")

    def blend(self, questions: Vectors, predictions: Vectors, *, gated: bool = True) -> Vectors:
        """Final query vectors, float32 [Q, D] of unit length.

        Args:
            questions: [Q, D] unit rows.
            predictions: [Q, D]; scaled to unit length here.
            gated: False leaves the gate out (the "ungated" figure of a comparison).
        """
        share = np.full((len(questions), 1), self.alpha, dtype=np.float32)
        if gated and self.gate is not None:
            share *= self.gate.openness(questions)[:, np.newaxis]
        blended = unit((1.0 - share) * questions + share * unit(predictions))
        # Dividing by the length again may change last bits: where nothing is blended, the very question comes back.
        final: Vectors = np.where(share > 0, blended, questions).astype(np.float32, copy=False)
        return final

    def over(self, openness: float) -> Guard:
        """The guard over a corpus with this openness (`CorpusGate`): alpha times it.

        Raises:
            ValueError: If the openness is outside [0, 1].
        """
        if not 0.0 <= openness <= 1.0:
            raise ValueError(f"openness must lie in [0, 1], got {openness}.")
        return replace(self, alpha=self.alpha * openness)


def mean_top_cosine(questions: Vectors, bank: Vectors, neighbours: int) -> Vectors:
    """Mean of the `neighbours` highest inner products of each question with the bank, float32 [Q]."""
    cosines = questions @ bank.T
    count = min(neighbours, bank.shape[0])
    top: Vectors = np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1).astype(np.float32)
    return top


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to unit length, float32; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
