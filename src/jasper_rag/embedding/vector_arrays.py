"""Vectors in files of arrays, .npy and .safetensors: checked by their header, then mapped and read block by block."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from jasper_rag.errors import InputError

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000
"""Bytes; NumPy's own limit. A header of numbers takes 128."""

_FLOAT = re.compile(r"[<>=|]?f[248]")
_SAFETENSORS_FLOATS = ("F16", "F32", "F64")
_ONE_PER_ROW = "Save one row per text, an array of shape [N, D] of float32, float16 or float64."
_AGAIN = "Write or copy the file again."


@dataclass(frozen=True, slots=True)
class RawVectors:
    """Vectors as a file has them.

    Args:
        path: The file.
        shape: N and D, both at least 1.
        blocks: Given a number of rows, yields the file's rows in order, at most so many at a time: floats [b, D].
    """

    path: Path
    shape: tuple[int, int]
    blocks: Callable[[int], Iterator[NDArray[Any]]]


def npy_vectors(path: Path) -> RawVectors:
    """Open a .npy file of floats [N, D] of 16, 32 or 64 bits; nothing in it is ever unpickled.

    Raises:
        InputError: The file cannot be read, is cut, or holds something else.
    """
    try:
        dtype, shape, column_major, offset = _npy_header(path)
        needed = offset + math.prod(shape) * dtype.itemsize
        if path.stat().st_size < needed:
            raise InputError(
                f"the file is cut: {path.stat().st_size} bytes, where shape {list(shape)} takes {needed}.",
                remedy=_AGAIN,
                path=path,
            )
        order = "F" if column_major else "C"
        array = np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order=order)  # type: ignore[call-overload]
    except OSError as error:
        raise _unreadable(path, error) from error

    def blocks(rows: int) -> Iterator[NDArray[Any]]:
        for start in range(0, shape[0], rows):
            yield array[start : start + rows]

    return RawVectors(path, shape, blocks)


def _npy_header(path: Path) -> tuple[np.dtype[Any], tuple[int, int], bool, int]:
    """Return type, shape, whether columns come first, and where the numbers begin."""
    # The format: magic, version (2 bytes), length of the header (2 bytes; 4 from version 2 on), a dictionary as text.
    with path.open("rb") as file:
        start = file.read(8)
        if not start.startswith(_MAGIC):
            found = f"it begins with {start!r}" if start else "it is empty"
            raise InputError(f"not a .npy file: {found}.", remedy="Write it with numpy.save.", path=path)
        length = int.from_bytes(file.read(2 if start[6:7] == b"\1" else 4), "little")
        content = file.read(min(length, _LONGEST_HEADER))
        offset = file.tell()
    header = _parsed(content) if len(content) == length else None
    if header is None:
        raise InputError("the header of this .npy file is cut or damaged.", remedy=_AGAIN, path=path)
    descr, shape = header["descr"], header["shape"]
    if not isinstance(descr, str) or not _FLOAT.fullmatch(descr):
        if isinstance(descr, str) and descr.endswith("O"):
            descr = "Python objects, stored as a pickle, which is never read"
        raise InputError(f"floats are expected, the file holds {descr}.", remedy=_ONE_PER_ROW, path=path)
    return np.dtype(descr), require_matrix(shape, path), header["fortran_order"], offset


def _parsed(content: bytes) -> dict[str, Any] | None:
    """Return the header's dictionary, or None if it is not one with the three entries of the format."""
    try:
        header = ast.literal_eval(content.decode("latin1").strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        return None
    shape = header["shape"]
    sound = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    return header if sound and isinstance(header["fortran_order"], bool) else None


def safetensors_vectors(path: Path, name: str | None = None) -> RawVectors:
    """Open a tensor [N, D] of 16-, 32- or 64-bit floats in a .safetensors file.

    Args:
        path: The file.
        name: Of the tensor; may be None where only one fits.

    Raises:
        InputError: The file cannot be read, is cut, has no such tensor, or several and no name is given.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
            kinds = {key: (tensor.get_dtype(), tuple(tensor.get_shape())) for key, tensor in tensors.items()}
    except OSError as error:
        raise _unreadable(path, error) from error
    except SafetensorError as error:
        raise InputError(f"not a whole .safetensors file ({error}).", remedy=_AGAIN, path=path) from error
    name = _tensor_name(kinds, name, path)
    dtype, shape = kinds[name]
    if dtype not in _SAFETENSORS_FLOATS:
        raise InputError(
            f"floats of 16, 32 or 64 bits are expected, the tensor holds {dtype}.",
            remedy="Save the vectors as float32.",
            path=path,
            field=name,
        )
    count, width = require_matrix(shape, path, name)

    def blocks(rows: int) -> Iterator[NDArray[Any]]:
        with safe_open(path, framework="numpy") as file:
            tensor = file.get_slice(name)
            for start in range(0, count, rows):
                yield tensor[start : min(start + rows, count)]

    return RawVectors(path, (count, width), blocks)


def _tensor_name(kinds: Mapping[str, tuple[str, tuple[int, ...]]], name: str | None, path: Path) -> str:
    listed = ", ".join(f"{key!r} ({dtype} {list(shape)})" for key, (dtype, shape) in kinds.items()) or "none"
    if name is not None and name not in kinds:
        raise InputError(
            f"there is no such tensor; the file has {listed}.", remedy="Name one of these.", path=path, field=name
        )
    fitting = [key for key, (dtype, shape) in kinds.items() if dtype in _SAFETENSORS_FLOATS and len(shape) == 2]
    fitting = [name] if name is not None else fitting or list(kinds)
    if len(fitting) != 1:
        raise InputError(
            f"one tensor [N, D] of floats is expected; the file has {listed}.",
            remedy=f"Name the one with the vectors: columns={{'vector': {next(iter(fitting), '...')!r}}}.",
            path=path,
        )
    return fitting[0]


def require_matrix(shape: tuple[int, ...], path: Path, field: str | None = None) -> tuple[int, int]:
    """Return N and D.

    Raises:
        InputError: The shape is not [N, D] with at least one row and one column.
    """
    if len(shape) != 2 or 0 in shape:
        raise InputError(
            f"shape {list(shape)}; expected [N, D] with at least one row and one column.",
            remedy=_ONE_PER_ROW,
            path=path,
            field=field,
        )
    return shape[0], shape[1]


def _unreadable(path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"this file cannot be read ({reason}).", remedy="Give a readable, regular file.", path=path)
