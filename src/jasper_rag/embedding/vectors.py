"""The shape of embeddings, and the check every vector from outside passes through."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jasper_rag.errors import InputError

Role = Literal["query", "document"]
"""Which side of the search a text stands on; encoders may prompt the two differently."""

Vectors = NDArray[np.float32]
"""Embeddings, float32 [n, D]."""

_BLOCK = 16_384
"""Rows normalised at a time, so that the float64 copy stays small beside the matrix itself."""

_UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a "unit" row may be; bfloat16 normalisation is off by up to 4e-4."""


def unit_rows(values: object, texts: Sequence[str], source: str) -> Vectors:
    """Check the vectors of `texts` and scale every row to length 1.

    Args:
        values: Array-like [n, D] of numbers: NumPy, torch, nested lists.
        texts: The n texts, for the messages.
        source: Who returned the values, for the messages.

    Returns:
        float32 [n, D], every row of length 1; a new array.

    Raises:
        InputError: The values are not [n, D] numbers, or a row is not finite or all zeros.
    """
    matrix = _as_matrix(values, len(texts), source)
    unit = np.empty(matrix.shape, dtype=np.float32)
    for start in range(0, len(matrix), _BLOCK):
        block = matrix[start : start + _BLOCK].astype(np.float64)
        _require_finite(block, texts, source, start)
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        zeros = np.flatnonzero(norms == 0)
        if len(zeros):
            row = start + int(zeros[0])
            raise InputError(
                f"{source} returned a vector of zeros for text {row} ({excerpt(texts[row])}); it has no direction.",
                remedy="Leave out empty texts, or check the encoder.",
            )
        unit[start : start + _BLOCK] = block / norms
    return unit


def check_unit_rows(values: object, texts: Sequence[str], dimension: int, source: str) -> Vectors:
    """Check what an `Encoder` returned, without changing a bit of it.

    Args:
        values: Array-like [n, D] of numbers.
        texts: The n texts, for the messages.
        dimension: The D expected.
        source: Who returned the values, for the messages.

    Returns:
        The values as float32 [n, D].

    Raises:
        InputError: Another shape or dimension, or a row that is not finite or not of length 1.
    """
    matrix = _as_matrix(values, len(texts), source).astype(np.float32, copy=False)
    if matrix.shape[1] != dimension:
        raise InputError(
            f"{source} returned {matrix.shape[1]} dimensions, its identity says {dimension}.",
            remedy="An encoder has one dimension for all texts; check its identity().",
        )
    _require_finite(matrix, texts, source, 0)
    lengths = np.linalg.norm(matrix, axis=1)
    off = np.flatnonzero(np.abs(lengths - 1.0) > _UNIT_TOLERANCE)
    if len(off):
        row = int(off[0])
        raise InputError(
            f"{source} returned a vector of length {lengths[row]:.4g} for text {row} ({excerpt(texts[row])}); "
            "expected length 1.",
            remedy="Divide every row by its norm in encode(), or pass a plain function to as_encoder(), which does.",
        )
    return matrix


def require_texts(texts: Sequence[str]) -> None:
    """Refuse a lone string and rows that are not text.

    Raises:
        ValueError: `texts` is itself one string.
        InputError: A row is not a string, or not valid Unicode.
    """
    if isinstance(texts, str):
        raise ValueError(f"texts must be a sequence of strings, got one string ({excerpt(texts)}); put it in a list.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"text {row} is {text!r}, of type {type(text).__name__}; expected a string.",
                remedy="Drop the row or give it a text; missing values are often read as None or NaN.",
            )
        require_unicode(text, f"text {row}")


def require_unicode(text: str, what: str, field: str | None = None) -> None:
    """Refuse a string with half a character, which Python makes of undecodable bytes and no tokenizer takes.

    Args:
        text: The string.
        what: Its name, for the message.
        field: Of the error.

    Raises:
        InputError: It has an unpaired surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} ({excerpt(text)}) is not valid Unicode at character {error.start}: {error.reason}.",
            remedy="Read the file with its true encoding, or with errors='replace'.",
            field=field,
        ) from error


def excerpt(text: str, limit: int = 60) -> str:
    """The quoted beginning of a text, for one line of a message."""
    return repr(text if len(text) <= limit else f"{text[: limit - 1]}…")


def _as_matrix(values: object, count: int, source: str) -> NDArray[Any]:
    expected = f"expected numbers of shape [{count}, D], one row per text"
    torch = sys.modules.get("torch")  # A tensor can only come from a torch that is already imported.
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().to(device="cpu", dtype=torch.float32).numpy()
    try:
        matrix = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{source} returned rows of unequal shape; {expected}.", remedy=str(error)) from error
    if matrix.dtype.kind not in "fiu":
        raise InputError(
            f"{source} returned {type(values).__name__} holding {matrix.dtype}; {expected}.",
            remedy="Return a dense array (a sparse matrix has .toarray()).",
        )
    if matrix.ndim != 2 or matrix.shape[0] != count or matrix.shape[1] == 0:
        raise InputError(
            f"{source} returned shape {list(matrix.shape)} for {count} texts; {expected}.",
            remedy="Return one vector per text, in the order of the texts.",
        )
    return matrix


def _require_finite(block: NDArray[Any], texts: Sequence[str], source: str, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        row = start + int(bad[0])
        raise InputError(
            f"{source} returned NaN or infinity for text {row} ({excerpt(texts[row])}).",
            remedy='Check that text; with half precision, try dtype "float32".',
        )
