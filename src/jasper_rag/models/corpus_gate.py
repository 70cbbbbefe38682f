"""The corpus gate: whether the searched documents are like those that the predictor was trained on.

Questions alone cannot tell: "how do I list files" may be asked of manual pages and of source code. The documents can.
Computed once per corpus, it costs nothing at query time: it scales the blend (`Guard.over`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.models.guard import Vectors, mean_top_cosine

_SAMPLE = 4096
"""Rows looked at: a share of 1/4 is then known to within .007 (standard error)."""


@dataclass(frozen=True, slots=True)
class CorpusGate:
    """How open the guard is over a corpus, as a number in [0, 1].

        familiarity f(d) = mean of the `neighbours` highest cosines between document d and the bank
        share s = min( 2 P(f(d) >= typical), 1 ) over the documents of the corpus
        openness = clip( (s - low) / (high - low), 0, 1 )

    `typical` is the median familiarity of documents of the home corpus that were not trained on. Half of any such
    documents reach it and hardly any others do, so s estimates the share of the corpus that is of the home kind.

    Args:
        bank: float32 [m, D], unit rows: a sample of the documents trained on.
        typical: Familiarity.
        low: Share up to which the corpus is foreign.
        high: Share from which it is the home corpus, whatever else it holds; > low.
        neighbours: How many of the nearest rows of the bank count.

    Raises:
        ValueError: If `high` is not above `low`, or the bank is empty.
    """

    bank: Vectors
    typical: float
    low: float
    high: float
    neighbours: int = 5

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"the corpus gate needs low < high, got {self.low} and {self.high}.")
        if len(self.bank) == 0 or self.neighbours < 1:
            raise ValueError(
                f"the corpus gate needs a bank and neighbours, got {len(self.bank)} and {self.neighbours}."
            )

    def share(self, documents: Vectors) -> float:
        """Share s in [0, 1] of a corpus, unit rows [N, D], N > 0; of a memory map only a fixed sample is read."""
        familiarity = mean_top_cosine(documents[sampled_rows(len(documents))], self.bank, self.neighbours)
        return min(2.0 * float((familiarity >= self.typical).mean()), 1.0)

    def openness(self, documents: Vectors) -> float:
        """Openness in [0, 1] over a corpus, unit rows [N, D], N > 0."""
        return min(max((self.share(documents) - self.low) / (self.high - self.low), 0.0), 1.0)


def sampled_rows(count: int) -> NDArray[np.int64]:
    """At most 4,096 of the rows 0 to `count` - 1, ascending, the same ones each time."""
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, _SAMPLE, replace=False))
