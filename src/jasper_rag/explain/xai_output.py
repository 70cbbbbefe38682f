"""Explanations as plain values: rounded, told apart, written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jasper_rag.atomic_files import write_json, write_text

_DECIMALS = 7
"""What float32 holds of numbers up to 1; more digits would only make files longer."""


def plain_values(values: Tensor) -> list[Any]:
    """As Python floats of 7 decimals."""
    rounded: list[Any] = np.round(values.to("cpu", torch.float64).numpy(), _DECIMALS).tolist()
    return rounded


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """The same names; one that stood before is followed by its number from 1, so that no weight hides another."""
    found: dict[str, None] = {}
    for row, name in enumerate(names):
        told = name
        while told in found:
            told = f"{told} #{row + 1}"
        found[told] = None
    return tuple(found)


def save_xai_outputs(outputs: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write explanations, whole or not at all: one per line where the name ends in `.jsonl`, else an indented list.

    Raises:
        ValueError: A value is not finite.
        OSError: It cannot be written.
    """
    if Path(path).suffix.lower() != ".jsonl":
        write_json(path, list(outputs))
        return
    lines = [json.dumps(each, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for each in outputs]
    write_text(path, "".join(lines))
