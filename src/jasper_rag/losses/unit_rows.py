"""Rows of unit length in full precision: what every cosine in a loss is taken between."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-12
"""The shortest length that is divided by; functional.normalize's."""

_UNIT_TOLERANCE = 1e-6


def widened(values: Tensor) -> Tensor:
    """Half precision as float32; logits of 1/T would keep two digits in bfloat16."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def full_precision(values: Tensor) -> torch.autocast:
    """Context in which autocast does not take the widening back."""
    return torch.autocast(values.device.type, enabled=False)


def unit_rows(vectors: Tensor) -> Tensor:
    """[..., D] scaled to unit length in at least float32; rows of zero stay zero."""
    return functional.normalize(widened(vectors), dim=-1, eps=EPS)


class UnitRows:
    """`unit_rows` that remembers its last answer: sources and centroids stay the same from step to step.

    The answer is forgotten when another tensor comes, or the same one written in place. Vectors that carry gradient are
    normalised anew. On the CPU vectors of unit length are returned as they are, without a copy.
    """

    def __init__(self) -> None:
        self._given: Tensor | None = None
        self._version = -1
        self._unit: Tensor | None = None

    def __call__(self, vectors: Tensor) -> Tensor:
        """Unit rows of `vectors` [N, D]."""
        # Tensors made in inference mode count no versions, so a change would go unseen.
        if vectors.requires_grad or vectors.is_inference() or torch.is_inference_mode_enabled():
            return unit_rows(vectors)
        if self._unit is None or self._given is not vectors or self._version != vectors._version:
            self._given, self._version, self._unit = vectors, vectors._version, _unit_without_copy(vectors)
        return self._unit

    def __reduce__(self) -> tuple[type[UnitRows], tuple[()]]:
        """Copies and other processes start with an empty memory."""
        return UnitRows, ()


def _unit_without_copy(vectors: Tensor) -> Tensor:
    if vectors.device.type != "cpu":  # elsewhere the look at the lengths would wait for the device
        return unit_rows(vectors)
    wide = widened(vectors)
    lengths = torch.linalg.vector_norm(wide, dim=-1)
    if bool(((lengths - 1).abs() <= _UNIT_TOLERANCE).all()):
        return wide
    return unit_rows(vectors)
