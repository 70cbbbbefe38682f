"""Are the questions still those that were trained for? The share of recent ones that the gate calls unfamiliar."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.training.predictor_training_config import GuardConfig

WINDOW = 1_000
"""Recent questions that count."""
FEWEST = 50
"""Fewer questions than this say nothing."""
_EXCESS = 3.0
"""Times the expected share from which a refit is advised."""


class QuestionMonitor:
    """Counts recent questions whose gate is closed: these are searched with the plain encoder.

    Args:
        expected: The share to expect of questions like those trained on: the dev quantile at which the gate closes.
        window: Recent questions that count.
    """

    def __init__(self, expected: float = GuardConfig().gate_low, window: int = WINDOW) -> None:
        self.expected = expected
        self._closed: deque[bool] = deque(maxlen=window)

    def add(self, openness: NDArray[np.floating[Any]]) -> None:
        """Count questions by their gate's openness, [Q] in [0, 1]."""
        self._closed.extend((openness <= 0).tolist())

    @property
    def questions(self) -> int:
        """How many questions count, at most the window."""
        return len(self._closed)

    @property
    def outside(self) -> float:
        """Share of them outside the gate, in [0, 1]; 0 where there are none."""
        return sum(self._closed) / len(self._closed) if self._closed else 0.0

    @property
    def drifted(self) -> bool:
        """Whether so many are outside that a refit is advised."""
        return self.questions >= FEWEST and self.outside > _EXCESS * self.expected

    def line(self) -> str:
        """One sentence for a log."""
        found = f"{self.outside:.0%} of the last {self.questions:,} questions are outside the gate"
        expected = f"about {self.expected:.0%} are to be expected"
        if self.questions < FEWEST:
            return f"{found} ({expected}; fewer than {FEWEST} questions say little)."
        if self.drifted:
            advice = "people ask differently now: label some of these questions and run `jasper fit` again"
            return f"{found} ({expected}): {advice}."
        return f"{found} ({expected})."
