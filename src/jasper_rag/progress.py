"""Progress of long work: a bar with rate and time left on a terminal, silence elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

_QUIET: ContextVar[bool] = ContextVar("jasper_rag_quiet", default=False)


@contextmanager
def quiet(enabled: bool = True) -> Iterator[None]:
    """Within this block no bar is drawn, terminal or not."""
    token = _QUIET.set(enabled)
    try:
        yield
    finally:
        _QUIET.reset(token)


def progress_bar(total: int | None, description: str, unit: str = "it") -> tqdm[Any]:
    """A tqdm bar on stderr, drawn only on a terminal and outside `quiet()`; a context manager with `.update(n)`.

    Args:
        total: Units of work in all; None where that is not known.
        description: What is being done, e.g. "encoding documents".
        unit: Name of one unit.
    """
    # disable=None is tqdm's own "only if stderr is a terminal".
    return tqdm(total=total, desc=description, unit=f" {unit}", disable=True if _QUIET.get() else None, leave=False)
