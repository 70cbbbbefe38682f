"""Question-source pairs with all that mining their negatives has to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vectors import Vectors

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairSet:
    """The pairs to mine for, and what they know.

    Args:
        questions: float32 [Q, D], unit rows.
        sources: float32 [N, D], unit rows.
        pairs: int64 [P, 2], (question row, source row).
        source_cluster: int64 [N].
        centroids: float32 [K, D], unit rows.
        positives: int64 [L, 2], every known (question row, source row), of all splits.
        text_group: int64 [N], row of the first source of equal text; only that one is ever a negative.
    """

    questions: Vectors
    sources: Vectors
    pairs: IntArray
    source_cluster: IntArray
    centroids: Vectors
    positives: IntArray
    text_group: IntArray

    def positive_keys(self) -> IntArray:
        """Sorted keys question * N + text group of every known positive."""
        return positive_keys(self.positives, self.text_group)


def positive_keys(positives: IntArray, text_group: IntArray) -> IntArray:
    """Sorted keys question * N + text group of known (question row, source row) pairs, each once.

    Args:
        positives: int64 [L, 2].
        text_group: int64 [N].
    """
    keys: IntArray = np.unique(positives[:, 0] * len(text_group) + text_group[positives[:, 1]])
    return keys
