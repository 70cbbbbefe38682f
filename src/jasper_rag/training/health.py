"""Signals of a run that goes wrong, each with what to do about it; a run that diverges is stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

LOSSES = (
    "total",
    "jasper",
    "contrastive",
    "centroid",
    "vicreg",
    "vicreg_v",
    "vicreg_i",
    "vicreg_c",
    "routing",
    "entropy_reg",
    "residual_penalty",
    "disentanglement",
)
"""Names of losses, without `train/` or `val/`."""

PREDICTION_COSINE = "prediction_cosine"
"""Mean cosine of two different predictions of a batch: `train/prediction_cosine`."""

COLLAPSE_COSINE = 0.99
COLLAPSE_VARIANCE = 0.9
# The variance term, mean(max(0, 1 - std)), cannot reach the 1.0 at which the tuning guide warns: it is .9 where the
# deviation of the predictions is a tenth of what it should be, which for unit vectors is a mean cosine of .99.
VARIANCE_SPIKE = 0.3
"""Rise of the variance term above its lowest value so far."""
FLAT, RISING = 0.01, 0.05
"""Relative change of the mean over a window: smaller is flat, a greater rise is a rise."""
SWING = 0.05
"""Mean relative step from epoch to epoch, up and down by turns, that counts as oscillation."""
SPIKE = 1.5
"""Times the median of the epochs before."""
_WINDOW = 6
_ROUTING_EPOCHS = 3
_SETTLED = 0.1
"""Below this share of the highest learning rate so far, a loss may well be flat."""

_Row = Mapping[str, float]
_Finding = tuple[str, float, str, str]
"""Metric, value, message and remedy."""


class TrainingDiverged(ArithmeticError):
    """A loss is NaN or infinite: no later step can be of use. `remedy` says what to try.

    Args:
        losses: Names of the losses that are not finite.
        place: When, e.g. "epoch 3" or "step 1,200".
    """

    remedy = (
        "Clip gradients (max_grad_norm: 1.0), lower the learning rate (3.0e-4 -> 1.0e-4 -> 3.0e-5), warm up longer "
        "(warmup_epochs: 5), or set lambda_vicreg: 0 to see whether it is the cause."
    )

    def __init__(self, losses: Sequence[str], place: str) -> None:
        self.losses = tuple(losses)
        self.place = place
        super().__init__(f"training diverged at {place}: {', '.join(losses)} not finite")
        self.add_note(self.remedy)


@dataclass(frozen=True, slots=True)
class HealthWarning:
    """One signal out of its healthy range.

    Args:
        signal: "collapse", "uniform_routing", "flat_jasper", "rising_jasper", "oscillating_contrastive" or
            "contrastive_spike".
        metric: Name of the metric that shows it.
        value: Its value.
        message: What is wrong.
        remedy: What to do.
    """

    signal: str
    metric: str
    value: float
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}"


def require_finite(metrics: Mapping[str, Any], place: str) -> None:
    """Check the losses among `metrics`; names with and without `train/` or `val/`, values as `float()` takes them.

    Args:
        metrics: Of a step, an interval or an epoch; None counts as not given.
        place: When, for the message: "epoch 3", "step 1,200".

    Raises:
        TrainingDiverged: At least one is NaN or infinite; the parts are named, the total only where all are finite.
    """
    losses = {name: value for name, value in metrics.items() if _base(name) in LOSSES and value is not None}
    bad = [name for name, value in losses.items() if not math.isfinite(float(value))]
    parts = [name for name in bad if _base(name) != "total"]
    if bad:
        raise TrainingDiverged(parts or bad, place)


class HealthMonitor:
    """Watches the metrics of every epoch. A signal is reported when it begins, and again only once it has ended.

    Args:
        n_clusters: C; 1/C is the accuracy of chance. None: only an accuracy of about 0 counts as broken routing.
        variance_scaled: Whether VICReg sees vectors scaled by sqrt(D). Otherwise its variance term is always near 1 on
            unit vectors and says nothing; only the cosine of predictions shows a collapse then.
    """

    def __init__(self, n_clusters: int | None = None, *, variance_scaled: bool = True) -> None:
        self.n_clusters = n_clusters
        self.variance_scaled = variance_scaled
        self._rows: list[_Row] = []
        self._active: frozenset[str] = frozenset()

    @property
    def active(self) -> frozenset[str]:
        """Signals that are out of range as of the last epoch."""
        return self._active

    def check(self, metrics: Mapping[str, Any]) -> list[HealthWarning]:
        """Take in the metrics of one more epoch.

        Args:
            metrics: As `TrainingMonitor.log_metrics` has them: "train/jasper", "train/vicreg_v", ..., perhaps "epoch".

        Returns:
            Signals that were in range before and are out of it now.

        Raises:
            TrainingDiverged: A loss is NaN or infinite.
        """
        require_finite(metrics, f"epoch {metrics.get('epoch', len(self._rows))}")
        self._rows.append({key: float(value) for key, value in metrics.items() if hasattr(value, "__float__")})
        found = {}
        for signal, look in _SIGNALS.items():
            finding = look(self)
            if finding is not None:
                found[signal] = HealthWarning(signal, *finding)
        before, self._active = self._active, frozenset(found)
        return [warning for signal, warning in found.items() if signal not in before]

    def restore(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Go on after these epochs, as if they had been checked one by one."""
        self._rows, self._active = [], frozenset()
        for row in history:
            self.check(row)

    def _last(self, name: str) -> tuple[str, list[float]]:
        """The metric `train/name`, else `val/name`, and its values in the epochs up to now, if the last one has it."""
        for metric in (f"train/{name}", f"val/{name}"):
            if self._rows and metric in self._rows[-1]:
                return metric, [row[metric] for row in self._rows if metric in row]
        return name, []

    def _collapse(self) -> _Finding | None:
        remedy = (
            "Raise lambda_vicreg (0.1 -> 0.5), keep tau_min at 0.99 or above, and update the EMA target after the "
            "optimiser's step, never before it."
        )
        metric, cosines = self._last(PREDICTION_COSINE)
        if cosines and cosines[-1] > COLLAPSE_COSINE:
            message = f"Predictions collapse: {metric} is {cosines[-1]:.3f}, all of them point the same way."
            return metric, cosines[-1], message, remedy
        metric, values = self._last("vicreg_v")
        if not values:
            return None
        value, lowest = values[-1], min(values)
        limit = min(COLLAPSE_VARIANCE, lowest + VARIANCE_SPIKE) if self.variance_scaled else 1.0
        if value <= limit:
            return None
        since = f", up from {lowest:.3g}" if value > lowest else ""
        message = f"Predictions begin to collapse: {metric} is {value:.3g}{since} (healthy: below 0.1)."
        return metric, value, message, remedy

    def _uniform_routing(self) -> _Finding | None:
        metric, values = self._last("centroid_acc")
        clusters = self.n_clusters
        if len(values) < _ROUTING_EPOCHS or clusters == 1:
            return None
        chance = 1 / clusters if clusters else 0.0
        # Twice chance says little where there are few clusters: of two, it is perfection.
        limit = min(2 * chance, chance + 0.05 * (1 - chance)) if clusters else 0.01
        if max(values[-_ROUTING_EPOCHS:]) > limit:
            return None
        level = f", chance is {chance:.3g}" if clusters else ""
        message = f"Predictions do not find their cluster: {metric} is {values[-1]:.3g}{level} (healthy: 0.3 to 0.8)."
        remedy = (
            "Check that the centroids are of the same embedding model as the sources, raise lambda_centroid "
            "(0.1 -> 0.5), or lower centroid_temperature (0.1 -> 0.05)."
        )
        return metric, values[-1], message, remedy

    def _change(self, name: str) -> tuple[str, float, float]:
        """Metric, last value, and relative change from the first to the second half of the window."""
        metric, values = self._last(name)
        window = values[-_WINDOW:]
        if len(window) < _WINDOW:
            return metric, math.nan, -1.0
        before, after = fmean(window[: _WINDOW // 2]), fmean(window[_WINDOW // 2 :])
        return metric, window[-1], (after - before) / before if before else -1.0

    def _flat_jasper(self) -> _Finding | None:
        metric, value, change = self._change("jasper")
        rates = [row["train/lr"] for row in self._rows if "train/lr" in row]
        if abs(change) >= FLAT or (rates and rates[-1] < _SETTLED * max(rates)):
            return None
        message = f"{metric} is flat at {value:.4g}: it changed by {change:+.1%} over the last {_WINDOW} epochs."
        return metric, value, message, "Reduce learning_rate."

    def _rising_jasper(self) -> _Finding | None:
        metric, value, change = self._change("jasper")
        # Where the sum of all losses goes down, another of them is worth more than this one.
        if change < RISING or ("train/total" in self._rows[-1] and self._change("total")[2] < 0):
            return None
        message = f"{metric} rises: by {change:+.1%} over the last {_WINDOW} epochs, to {value:.4g}."
        return metric, value, message, "Halve learning_rate; if it still rises, start with lambda_jasper alone."

    def _oscillating_contrastive(self) -> _Finding | None:
        metric, values = self._last("contrastive")
        window = values[-_WINDOW:]
        steps = [after - before for before, after in pairwise(window)]
        turns = sum(one * other < 0 for one, other in pairwise(steps))
        if len(window) < _WINDOW or turns < _WINDOW - 2 or fmean(map(abs, steps)) < SWING * fmean(map(abs, window)):
            return None
        message = f"{metric} oscillates: {min(window):.4g} to {max(window):.4g} within {_WINDOW} epochs."
        return metric, window[-1], message, _RAISE_TEMPERATURE

    def _contrastive_spike(self) -> _Finding | None:
        metric, values = self._last("contrastive")
        before = values[-_WINDOW:-1]
        if len(before) < _WINDOW // 2 or values[-1] <= SPIKE * median(before):
            return None
        message = f"{metric} jumped to {values[-1]:.4g}, from about {median(before):.4g}."
        return metric, values[-1], message, _RAISE_TEMPERATURE


_RAISE_TEMPERATURE = "Raise contrastive_temperature, e.g. 0.1 -> 0.3."

_SIGNALS: Mapping[str, Callable[[HealthMonitor], _Finding | None]] = {
    "collapse": HealthMonitor._collapse,
    "uniform_routing": HealthMonitor._uniform_routing,
    "flat_jasper": HealthMonitor._flat_jasper,
    "rising_jasper": HealthMonitor._rising_jasper,
    "oscillating_contrastive": HealthMonitor._oscillating_contrastive,
    "contrastive_spike": HealthMonitor._contrastive_spike,
}


def _base(name: str) -> str:
    return name.rpartition("/")[2]
