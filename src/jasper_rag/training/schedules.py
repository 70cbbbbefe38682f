"""Schedules: a value for every step."""

from __future__ import annotations


def geometric(start: float, end: float, step: int, steps: int) -> float:
    """Start * (end / start) ** (step / steps): equal factors per step, from `start` at step 0 towards `end`."""
    return float(start * (end / start) ** (step / steps))
