"""Is a dataset directory what it says it is? One vectorised pass over what was read.

What cannot be served is refused, with file, row, value and limit; what can be served but spoils training or its
figures is counted and returned, to be warned of. The looking is done in numpy: torch would share each of many short
computations out among threads, and on a busy machine wait for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jasper_rag import dataset_layout as layout
from jasper_rag.data.dataset_config import DatasetConfig
from jasper_rag.data.storage.stored import Stored, StoredKeywords
from jasper_rag.errors import InputError

_DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "int64": torch.int64}

_BLOCK_NUMBERS = 1 << 22
"""Numbers looked at at a time, so that little of a mapped file is in memory."""

_SLACK = 1e-4
"""How far rounding may carry a relevance or a distance beyond its range."""

_REMEDY = "Build the dataset again."


class Limit(NamedTuple):
    """The range of a column."""

    low: float
    high: float
    reason: str
    """Where the range comes from."""


def check_dataset(config: DatasetConfig, tensors: Mapping[str, Stored], keywords: StoredKeywords) -> None:
    """Check dtypes, shapes, finiteness and ranges of everything, and that no pair is in two splits.

    Args:
        config: Of the same directory.
        tensors: By name of `dataset_layout.SPECS`; all required ones are there.
        keywords: The keyword lists.

    Raises:
        InputError: The first thing wrong, with its file, row, value and limit.
    """
    sizes = _sizes(config, tensors)
    for name, stored in tensors.items():
        check_tensor(stored, layout.SPECS[name], sizes)
    _check_keywords(keywords, sizes)
    _check_splits(tensors)


def check_tensor(stored: Stored, spec: layout.TensorSpec, sizes: Mapping[str, int]) -> None:
    """Check dtype, shape, finiteness and range of one tensor.

    Args:
        stored: The tensor.
        spec: What it must be.
        sizes: Known sizes by key; one that is not there is free.

    Raises:
        InputError: It is not.
    """
    tensor = stored.tensor
    _check_form(stored, spec.dtype, [sizes.get(size) if isinstance(size, str) else size for size in spec.shape])
    if spec.name == "pair_index":
        _check_range(stored, tensor[:, 0], _below("n_questions", sizes), "column 0")
        _check_range(stored, tensor[:, 1], _below("n_sources", sizes), "column 1")
    elif isinstance(spec.high, str):
        _check_range(stored, tensor, _below(spec.high, sizes))
    elif spec.low is not None and spec.high is not None:
        slack = _SLACK if tensor.is_floating_point() else 0
        _check_range(stored, tensor, Limit(spec.low - slack, spec.high + slack, f"{spec.low:g} to {spec.high:g}"))
    else:
        _check_range(stored, tensor, Limit(-math.inf, math.inf, "finite numbers"))


def _sizes(config: DatasetConfig, tensors: Mapping[str, Stored]) -> dict[str, int]:
    sizes = {layout.EMBEDDING_DIM_KEY: config.embedding_dim, layout.N_NEG_KEY: config.n_neg}
    for key, name in layout.COUNTED_TENSORS.items():
        stored = tensors[name]
        rows = stored.tensor.shape[0] if stored.tensor.ndim else 0
        stated: int | None = getattr(config, key)
        if stated is not None and stated != rows:
            problem = f"has {rows} rows, but {key} in {layout.CONFIG_FILE} is {stated}"
            raise InputError(problem, remedy=_REMEDY, path=stored.path)
        if rows == 0 and key != "n_keywords":
            raise InputError("has no rows", remedy=_REMEDY, path=stored.path)
        sizes[key] = rows
    return sizes


def _check_form(stored: Stored, dtype: str, shape: list[int | None]) -> None:
    tensor = stored.tensor
    if tensor.dtype != _DTYPES[dtype]:
        problem = f"holds {str(tensor.dtype).removeprefix('torch.')}, {dtype} is expected"
        raise InputError(problem, remedy=_REMEDY, path=stored.path)
    given = list(tensor.shape)
    if len(given) != len(shape) or any(want not in (None, have) for want, have in zip(shape, given, strict=True)):
        expected = "[" + ", ".join("n" if size is None else str(size) for size in shape) + "]"
        raise InputError(f"has shape {given}, {expected} is expected", remedy=_REMEDY, path=stored.path)


def _below(key: str, sizes: Mapping[str, int]) -> Limit:
    rows = sizes[key]
    return Limit(0, rows - 1, f"0 to {rows - 1}: {layout.COUNTED_TENSORS[key]} has {rows} rows")


def _blocks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Slices of an array along its first axis, each with its first row."""
    numbers = array.size // max(len(array), 1)
    rows = max(_BLOCK_NUMBERS // max(numbers, 1), 1)
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def _check_range(stored: Stored, tensor: Tensor, limit: Limit, column: str = "") -> None:
    """One reading of the numbers: least and greatest; NaN shows in both."""
    for start, block in _blocks(tensor.numpy()):
        least, greatest = block.min(), block.max()
        sound = math.isfinite(least) and math.isfinite(greatest)
        if not sound or least < limit.low or greatest > limit.high:
            inside = np.isfinite(block) & (block >= limit.low) & (block <= limit.high)
            place = np.argwhere(~inside)[0].tolist()
            where = ", ".join([f"row {start + place[0]}", *([column] if column else _columns(place[1:]))])
            problem = f"{where} is {block[tuple(place)].item()}; allowed: {limit.reason}"
            raise InputError(problem, remedy=_REMEDY, path=stored.path)


def _columns(place: list[int]) -> list[str]:
    return [f"column {column}" for column in place]


def _check_keywords(keywords: StoredKeywords, sizes: Mapping[str, int]) -> None:
    lists, path = keywords.lists, keywords.path
    values, offsets = Stored(lists.values, path), Stored(lists.offsets, path)
    _check_form(values, "int64", [None])
    _check_form(offsets, "int64", [sizes["n_pairs"] + 1])
    links = len(lists.values)
    _check_range(offsets, lists.offsets, Limit(0, links, f"0 to {links}: there are {links} keyword rows"), "offset")
    bounds, rows = lists.offsets.numpy(), lists.values.numpy()
    falls = np.flatnonzero(bounds[1:] < bounds[:-1])
    if len(falls) or bounds[0] != 0 or bounds[-1] != links:
        row = int(falls[0]) + 1 if len(falls) else (0 if bounds[0] else len(lists))
        problem = f"offset {row} is {bounds[row]}; offsets begin with 0, never fall and end with {links}"
        raise InputError(problem, remedy=_REMEDY, path=path)
    limit = _below("n_keywords", sizes)
    outside = np.flatnonzero((rows < limit.low) | (rows > limit.high))
    if len(outside):
        link = int(outside[0])
        pair = int(np.searchsorted(bounds, link, side="right")) - 1
        problem = f"row {pair} holds keyword {rows[link]}; allowed: {limit.reason}"
        raise InputError(problem, remedy=_REMEDY, path=path)
    if lists.weights is not None:
        weights = Stored(lists.weights, path)
        _check_form(weights, "float32", [links])
        _check_range(weights, lists.weights, Limit(0, math.inf, "finite numbers from 0"), "weight")


def _check_splits(tensors: Mapping[str, Stored]) -> None:
    splits = [(split, tensors[f"{split}_idx"]) for split in layout.SPLITS if f"{split}_idx" in tensors]
    owner = np.full(len(tensors["pair_index"].tensor), -1, dtype=np.int8)
    for number, (split, stored) in enumerate(splits):
        rows = stored.tensor.numpy()
        taken = np.flatnonzero(owner[rows] >= 0)
        if len(taken):
            row = int(taken[0])
            other = splits[int(owner[rows[row]])][0]
            problem = f"row {row} is pair {int(rows[row])}, which is in the {other} split too; allowed: one split"
            raise InputError(problem, remedy=_REMEDY, path=stored.path)
        owner[rows] = number
        if len(rows) and np.bincount(rows).max() > 1:
            order = np.argsort(rows, kind="stable")
            row = int(order[1:][rows[order][1:] == rows[order][:-1]].min())
            problem = f"row {row} is pair {int(rows[row])}, which the {split} split has already; allowed: once"
            raise InputError(problem, remedy=_REMEDY, path=stored.path)
