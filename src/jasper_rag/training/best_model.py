"""Which model of a run is the best so far, and whether it is time to stop."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from jasper_rag.training.trainer_config import higher_is_better


class BestModel:
    """Keeps the best value of one metric.

    Args:
        metric: Name, e.g. "val/ndcg@10".
        patience: Validations without a better one after which `exhausted` is true; None: never.
    """

    def __init__(self, metric: str, patience: int | None = None) -> None:
        self.metric = metric
        self.value: float | None = None
        self.weights: tuple[dict[str, Any], ...] | None = None
        self.step = 0
        self._sign = 1.0 if higher_is_better(metric) else -1.0
        self._patience = patience
        self._since = 0
        self._first: float | None = None
        self._last: int | None = None

    def improves(self, metrics: Mapping[str, float], step: int, *modules: nn.Module) -> bool:
        """Take in one validation; whether it is the best so far: then `weights` are copies of the modules'.

        A second validation at the same step, say after a resume, does not count.

        Raises:
            ValueError: The metric is not among them.
        """
        if self.metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise ValueError(f"best_metric {self.metric!r} is not measured; there are {known}.")
        if step == self._last:
            return False
        value, self._last = metrics[self.metric], step
        if self._first is None:
            self._first = value
        better = not math.isnan(value) and (self.value is None or self._sign * value > self._sign * self.value)
        if better:
            self.value, self.step, self._since = value, step, 0
            self.weights = tuple(copy.deepcopy(module.state_dict()) for module in modules)
        else:
            self._since += 1
        return better

    def exhausted(self, progress: float) -> bool:
        """Whether patience is at its end.

        Nothing is given up in the first half of a run that has not improved yet: while the rate is small a few dev
        questions stand still.

        Args:
            progress: Share of the run that is done, 0 to 1.
        """
        if self._patience is None or self._since < self._patience:
            return False
        return self.value != self._first or progress >= 0.5

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "metric": self.metric,
            "value": self.value,
            "step": self.step,
            "since": self._since,
            "first": self._first,
            "last": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, without `weights`; where another metric was watched, the count begins anew."""
        if state.get("metric") != self.metric:
            state = {"value": None, "step": 0, "since": 0, "first": None}
        self.weights = None
        self.value, self.step = state["value"], int(state["step"])
        self._since, self._first, self._last = int(state["since"]), state["first"], state.get("last")
