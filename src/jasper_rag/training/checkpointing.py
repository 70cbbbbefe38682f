"""Checkpoints: written whole or not at all, read without unpickling anything, rotated by their own name only."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.serialization import pickle as _torch_reader  # type: ignore[attr-defined]

from jasper_rag.atomic_files import replacing
from jasper_rag.errors import InputError

FORMAT_VERSION = 1

REQUIRED = ("model_state_dict", "ema_state_dict", "optimizer_state_dict", "global_step", "epoch", "metrics")

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
    if not path.is_file():
        raise InputError("there is no checkpoint here.", path=path, remedy=_there_are(path))
    try:
        # `weights_only`: nothing in the file is executed.
        state = torch.load(path, map_location=device, weights_only=True)
    except (_torch_reader.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError, ValueError) as error:
        problem = (
            f"cannot be read as a checkpoint ({str(error).splitlines()[0] if str(error) else type(error).__name__})."
        )
        remedy = "Use another checkpoint; files that hold more than tensors and plain values are refused."
        raise InputError(problem, path=path, remedy=remedy) from error
    missing = [key for key in REQUIRED if not isinstance(state, dict) or key not in state]
    if missing:
        raise InputError(f"lacks {', '.join(missing)}.", path=path, remedy="Give a checkpoint of a training run.")
    version = state.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        remedy = "Use the version of jasper-rag that wrote it, or train again."
        raise InputError(f"has format version {version}; this one reads {FORMAT_VERSION}.", path=path, remedy=remedy)
    return dict(state)


def periodic_path(folder: Path, epoch: int) -> Path:
    """Path of the periodic checkpoint of an epoch, from 0."""
    return folder / f"epoch_{epoch:04d}.pt"


def rotate(folder: Path, keep: int) -> None:
    """Remove all but the last `keep` periodic checkpoints; whatever else stands in the folder stays."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _PERIODIC.fullmatch(path.name))]
    for _, path in sorted(found)[:-keep]:
        path.unlink(missing_ok=True)


def _there_are(path: Path) -> str:
    folder = path.parent
    found = sorted(entry.name for entry in folder.glob("*.pt")) if folder.is_dir() else []
    if found:
        return f"In {folder} there are: {', '.join(found)}."
    return f"{folder} holds none: leave --resume out to start anew."
