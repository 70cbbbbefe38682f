"""Checkpoints: written whole or not at all, read without unpickling anything, rotated by their own name only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jasper_rag.atomic_files import replacing
from jasper_rag.errors import InputError
from jasper_rag.models.checkpoint_file import read_checkpoint_file

FORMAT_VERSION = 1

BEST, FINAL = "best.pt", "final.pt"

REQUIRED: Mapping[str, type] = {
    "model_state_dict": dict,
    "ema_state_dict": dict,
    "optimizer_state_dict": dict,
    "global_step": int,
    "epoch": int,
    "metrics": dict,
}
"""Keys that every checkpoint has, and the types of their values."""

_REMEDY = "Give a checkpoint of a training run."

_PERIODIC = re.compile(r"epoch_(\d{4,})\.pt")


def write_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(path) as temporary:
        torch.save({"format_version": FORMAT_VERSION, **state}, temporary)


def read_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; the original project's load too.

    Args:
        path: A file that `write_checkpoint` left.
        device: Where its tensors go.

    Raises:
        InputError: It is missing, damaged, holds more than tensors and plain values, or is no checkpoint.
    """
    path = Path(path)
    state = read_checkpoint_file(path, device, _there_are(path))
    missing = [key for key in REQUIRED if not isinstance(state, dict) or key not in state]
    if missing:
        raise InputError(f"lacks {', '.join(missing)}.", path=path, remedy=_REMEDY)
    wrong = [key for key, kind in REQUIRED.items() if not isinstance(state[key], kind)]
    if wrong:
        raise InputError(f"{wrong[0]} is a {type(state[wrong[0]]).__name__}.", path=path, remedy=_REMEDY)
    version = state.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        remedy = "Use the version of jasper-rag that wrote it, or train again."
        raise InputError(f"has format version {version}; this one reads {FORMAT_VERSION}.", path=path, remedy=remedy)
    return dict(state)


def periodic_path(folder: Path, epoch: int) -> Path:
    """Path of the periodic checkpoint of an epoch, from 0."""
    return folder / f"epoch_{epoch:04d}.pt"


def rotate(folder: Path, keep: int, epoch: int) -> None:
    """Remove all but the last `keep` periodic checkpoints up to an epoch; whatever else stands in the folder stays.

    Later ones are of another run, or of one that went on from an earlier epoch: they say nothing about this one's.
    """
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _PERIODIC.fullmatch(path.name))]
    for _, path in sorted(one for one in found if one[0] <= epoch)[:-keep]:
        path.unlink(missing_ok=True)


def _there_are(path: Path) -> str:
    folder = path.parent
    found = sorted(entry.name for entry in folder.glob("*.pt")) if folder.is_dir() else []
    if found:
        return f"In {folder} there are: {', '.join(found)}."
    return f"{folder} holds none: leave --resume out to start anew."
