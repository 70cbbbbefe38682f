"""A file of weights, read without unpickling anything; every fault of the file becomes an `InputError`."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.serialization import pickle as _torch_reader  # type: ignore[attr-defined]

from jasper_rag.errors import InputError

# What torch raises for a file that was cut short, damaged or made by something else; an OSError (EINVAL) is among it.
_UNREADABLE = (
    *(_torch_reader.UnpicklingError, RuntimeError, OSError, EOFError, zipfile.BadZipFile),
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError, struct.error),
)


def read_checkpoint_file(path: Path, device: torch.device | str, absent: str) -> Any:
    """What a file of tensors and plain values holds.

    Args:
        path: The file.
        device: Where its tensors go.
        absent: What to do where there is none.

    Raises:
        InputError: It is missing, damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise InputError("there is no checkpoint here.", path=path, remedy=absent)
    try:
        with path.open("rb") as file:
            # `weights_only`: nothing in the file is executed.
            return torch.load(file, map_location=device, weights_only=True)
    except PermissionError:
        raise
    except _UNREADABLE as error:
        # Not in torch's words: they recommend to load the file without the check.
        remedy = "Use another checkpoint; files that hold more than tensors and plain values are refused."
        raise InputError("cannot be read as a checkpoint.", path=path, remedy=remedy) from error
