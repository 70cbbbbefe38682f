"""A run on Weights & Biases, which may be missing or fail at any time: training goes on without it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)
_INSTALL = "pip install 'jasper-rag[wandb]', or set monitoring.use_wandb: false."


class WandbRun:
    """Metrics and images by epoch. Whatever fails is a warning, and ends the run there.

    Args:
        project: Of the run.
        name: Of the run; None: made up there.
        config: Settings of the run, plain values.
        directory: Where its files are written.
    """

    def __init__(self, project: str, name: str | None, config: Mapping[str, Any], directory: Path) -> None:
        self._run: Any = None
        self._failures: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, TypeError, AttributeError)
        try:
            self._wandb = importlib.import_module("wandb")
        except ImportError as error:
            _LOG.warning("metrics are not sent to Weights & Biases: wandb cannot be imported (%s): %s", error, _INSTALL)
            return
        own = getattr(self._wandb, "Error", None)
        if isinstance(own, type) and issubclass(own, Exception):
            self._failures = (own, *self._failures)
        with self._forgiving():
            self._run = self._wandb.init(project=project, name=name, config=dict(config), dir=str(directory))
            # Without it images and metrics would be counted by calls, not by epochs.
            self._run.define_metric("*", step_metric="epoch")

    @property
    def running(self) -> bool:
        """Whether something still arrives there."""
        return self._run is not None

    def log(self, values: Mapping[str, Any]) -> None:
        """Send the numbers among `values` (no truth values); "epoch" is among them."""
        numbers = {key: value for key, value in values.items() if type(value) in (int, float)}
        if self._run is not None:
            with self._forgiving():
                self._run.log(numbers)

    def log_image(self, name: str, path: Path, epoch: float) -> None:
        """Send a PNG as an image of an epoch."""
        if self._run is not None:
            with self._forgiving():
                self._run.log({name: self._wandb.Image(str(path)), "epoch": epoch})

    def finish(self) -> None:
        """Close the run; again is nothing."""
        if self._run is not None:
            with self._forgiving():
                self._run.finish()
            self._run = None

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            _LOG.warning("Weights & Biases failed, training goes on without it: %s: %s", type(error).__name__, error)
            self._run = None
