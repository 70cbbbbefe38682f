"""How often each steering variant is served in each epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jasper_rag.data.counter_random import uniform

Shares = tuple[float, float, float, float]
"""Probabilities of `dataset_layout.VARIANTS`: zero, centroid, keyword, residual."""

Mode = Literal["linear", "cosine", "fixed"]

_BLOCK = 1 << 20
"""Pairs drawn at a time, so that the 64-bit numbers of a large split are never all in memory."""


@dataclass(frozen=True)
class Curriculum:
    """Probabilities of the steering variants as a function of the epoch.

        u       = min(epoch / epochs_total, 1)                              linear
                  (1 - cos(pi min(epoch / epochs_total, 1))) / 2            cosine
                  0                                                         fixed
        p_zero  = zero_start + (zero_end - zero_start) u
        p_v     = base_v (1 - p_zero) / sum of the base values but zero's

    Where all other base values are 0, p_zero is 1. Without a schedule (`mode` None) the base values hold throughout.
    """

    base: Shares
    """They sum to 1."""
    mode: Mode | None = None
    zero_start: float = 0.5
    """p_zero of epoch 0."""
    zero_end: float = 0.1
    """p_zero from epoch `epochs_total` on."""
    epochs_total: float = 100
    """Length of the change in epochs; with 0 it is over at once."""

    def probabilities(self, epoch: int) -> Shares:
        """Probabilities in an epoch (0-based).

        Raises:
            ValueError: A negative epoch.
        """
        if epoch < 0:
            raise ValueError(f"epochs count from 0, got {epoch}")
        if self.mode is None:
            return self.base
        _, centroid, keyword, residual = self.base
        others = centroid + keyword + residual
        if others == 0:
            return (1.0, 0.0, 0.0, 0.0)
        zero = self.zero_start + (self.zero_end - self.zero_start) * self._progress(epoch)
        rest = (1 - zero) / others
        return (zero, centroid * rest, keyword * rest, residual * rest)

    def _progress(self, epoch: int) -> float:
        if self.mode == "fixed":
            return 0.0
        progress = min(epoch / self.epochs_total, 1.0) if self.epochs_total else 1.0
        return (1 - math.cos(math.pi * progress)) / 2 if self.mode == "cosine" else progress


def draw_variants(seed: int, epoch: int, rows: NDArray[np.int64], shares: Shares) -> NDArray[np.uint8]:
    """Number of the variant of each pair in an epoch: a pure function of (seed, epoch, row), uint8 [n].

    Args:
        seed: Of the draw.
        epoch: From 0.
        rows: Rows of pairs, [n].
        shares: Probabilities of the variants in this epoch.
    """
    bounds = np.cumsum(shares)
    # Whatever the rounding of the sum: the last variant that can occur takes the rest.
    bounds[np.flatnonzero(shares)[-1] :] = 1.0
    drawn = np.empty(len(rows), dtype=np.uint8)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        drawn[block] = np.searchsorted(bounds, uniform(seed, epoch, rows[block]), side="right")
    return drawn
