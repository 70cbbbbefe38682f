"""What is said of a finished epoch: warnings and figures to the log, all of it to the monitor."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from jasper_rag.training.health import HealthMonitor
from jasper_rag.training.monitoring import TrainingMonitor
from jasper_rag.training.processes import is_first
from jasper_rag.training.validation import Validation

_LOG = logging.getLogger(__name__)


class EpochReport:
    """Looks at every epoch; of several processes the first one speaks and writes.

    Args:
        health: Knows what is out of range.
        monitor: Takes the metrics; None: nobody does.
    """

    def __init__(self, health: HealthMonitor, monitor: TrainingMonitor | None) -> None:
        self._health = health
        self._monitor = monitor

    def __call__(self, epoch: int, row: Mapping[str, float]) -> None:
        """Report one epoch.

        Raises:
            TrainingDiverged: A loss is NaN or infinite; in every process.
        """
        found = self._health.check(row)
        if not is_first():
            return
        for warning in found:
            _LOG.warning("%s", warning)
        _LOG.info("epoch %d: %s", epoch, Validation.summary(row))
        if self._monitor is not None:
            self._monitor.log_metrics(epoch, {name: value for name, value in row.items() if name != "epoch"})

    def restore(self, history: Sequence[Mapping[str, float]]) -> None:
        """Go on after these rows, of which those of whole epochs count."""
        epochs = [row for row in history if "epoch_time_s" in row]
        self._health.restore(epochs)
        if self._monitor is not None and is_first():
            self._monitor.restore(epochs)
