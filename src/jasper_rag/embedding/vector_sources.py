"""Vectors that a user brings, with their ids: from .npy, .safetensors or Parquet to unit rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vector_arrays import RawVectors, npy_vectors, safetensors_vectors
from jasper_rag.embedding.vector_tables import ID_COLUMNS, id_column, parquet_vectors
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.progress import progress_bar
from jasper_rag.text.readers.judgement_files import KnownIds
from jasper_rag.text.readers.parquet import parquet_rows
from jasper_rag.text.readers.rows import Row, UniqueIds
from jasper_rag.text.readers.utf8 import utf8_lines

FIELDS: Mapping[str, tuple[str, ...]] = {".npy": (), ".safetensors": ("vector",), ".parquet": ("id", "vector")}
"""Suffix of a file of vectors -> what may be named in it by `columns`."""

UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a row may be before the file counts as rescaled; half precision is off by 4e-4."""

_SAME = 1e-6
"""Rows closer than this in every number cannot be told apart: the precision of float32."""

_SHORTEST = 1e-100
"""Below this length the squares of float64 numbers lose digits."""

_BLOCK_NUMBERS = 2**20
"""Numbers scaled at a time, 8 MB in float64."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenVectors:
    """N vectors and what each stands for.

    Args:
        ids: N ids, unique.
        vectors: float32 [N, D], rows of length 1.
        rescaled: Whether rows had another length before; inner products of the file's own vectors then rank otherwise.
        source: Where the ids come from, for messages.

    Raises:
        ValueError: There are not as many ids as vectors.
    """

    ids: tuple[str, ...]
    vectors: Vectors
    rescaled: bool = False
    source: str = "the given ids"

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.ids) != len(self.vectors):
            raise ValueError(f"{len(self.ids)} ids for vectors of shape {list(self.vectors.shape)}.")

    @property
    def known(self) -> KnownIds:
        """The ids as a set, to check judgements against."""
        return KnownIds(frozenset(self.ids), self.source)


def read_vectors(
    path: str | Path, ids: str | Path | None = None, *, columns: Mapping[str, str] | None = None
) -> GivenVectors:
    """Read vectors and scale them to length 1, block by block: memory is that of the result and one block.

    A .npy file holds one array [N, D]; a .safetensors file a tensor [N, D]; a Parquet file a column of lists and one
    of ids (`_id`, `id`, `doc_id`, `query_id`, ...). Numbers are floats of 16, 32 or 64 bits. Without ids, the rows of
    .npy and .safetensors files are called "0", "1", ...

    Args:
        path: The file of vectors.
        ids: A text file, UTF-8, one id per line in the order of the vectors. None for Parquet with a column of ids.
        columns: What is called how in the file, where it is not found by itself: `vector` (the tensor, the column),
            `id` (Parquet).

    Raises:
        InputError: Another format, shape or type; NaN, infinity or zeros for a vector; all vectors the same; empty
            or double ids; more or fewer ids than vectors; pyarrow is not installed. Named are file, row and remedy.
    """
    path, columns = Path(path), columns or {}
    _require_known_file(path, columns)
    raw = _opened(path, columns)
    names, source = _ids(raw, None if ids is None else Path(ids), columns.get("id"))
    if len(names) != raw.shape[0]:
        raise InputError(
            f"{len(names)} ids, but {path} has {raw.shape[0]} vectors.",
            remedy="One id per line and per vector, in the same order, without a header.",
            path=path if ids is None else ids,
        )
    vectors, rescaled = _unit_rows(raw, names)
    return GivenVectors(names, vectors, rescaled, source)


def _require_known_file(path: Path, columns: Mapping[str, str]) -> None:
    suffix = path.suffix.lower()
    if not os.path.isfile(path):
        problem = "a file is expected here." if os.path.exists(path) else "this file does not exist."
        raise InputError(problem, remedy=f"Give a file of vectors: {', '.join(FIELDS)}.", path=path)
    if suffix not in FIELDS:
        raise InputError(
            f"vectors cannot be read from {suffix or 'files without a suffix'}.",
            remedy=f"Known are {', '.join(FIELDS)}.",
            path=path,
        )
    if path.stat().st_size == 0:
        raise InputError("this file is empty.", remedy="Write the vectors again.", path=path)
    for field in columns:
        if field not in FIELDS[suffix]:
            can = f"can be named: {', '.join(FIELDS[suffix])}" if FIELDS[suffix] else "need be named"
            raise InputError(
                f"{field!r} cannot be named in a {suffix} file.",
                remedy=f"Of a {suffix} file {'these ' if FIELDS[suffix] else 'no columns '}{can}.",
                path=path,
                field=field,
            )


def _opened(path: Path, columns: Mapping[str, str]) -> RawVectors:
    match path.suffix.lower():
        case ".npy":
            return npy_vectors(path)
        case ".safetensors":
            return safetensors_vectors(path, columns.get("vector"))
        case _:
            return parquet_vectors(path, columns.get("vector"))


def _ids(raw: RawVectors, given: Path | None, column: str | None) -> tuple[tuple[str, ...], str]:
    """Return the ids and where they come from."""
    if raw.path.suffix.lower() == ".parquet":
        found = id_column(raw.path, column)
        if found is not None and given is not None:
            raise InputError(
                f"ids come from {given} and from the column {found!r}.",
                remedy=f"Leave out {given.name}, or write the file of vectors without that column.",
                path=raw.path,
                field="id",
            )
        if found is not None:
            return _unique(parquet_rows(raw.path, [found]), found), raw.path.name
        if given is None:
            raise InputError(
                "no column of ids.",
                remedy=f"Tried {', '.join(ID_COLUMNS)}. Name one by columns={{'id': ...}}, or give a file of ids.",
                path=raw.path,
                field="id",
            )
    if given is None:
        return tuple(map(str, range(raw.shape[0]))), f"the row numbers of {raw.path.name}"
    names = _unique((Row(given, number, {"id": line}) for number, line in _id_lines(given)), "id")
    return names, given.name


def _id_lines(path: Path) -> Iterable[tuple[int, str]]:
    return ((number, line.rstrip("\r\n")) for number, line in utf8_lines(path))


def _unique(rows: Iterable[Row], field: str) -> tuple[str, ...]:
    seen = UniqueIds()
    return tuple([seen.add(row, field) for row in rows])


def _unit_rows(raw: RawVectors, ids: tuple[str, ...]) -> tuple[Vectors, bool]:
    """Return the rows at length 1, float32 [N, D], and whether any had another length before."""
    count, width = raw.shape
    unit = np.empty((count, width), dtype=np.float32)
    rescaled, varied, start = False, count == 1, 0
    with progress_bar(count, f"reading {raw.path.name}", "rows") as bar:
        for block in raw.blocks(max(1, _BLOCK_NUMBERS // width)):
            begin, start = start, start + len(block)
            if start > count:
                break
            part = unit[begin:start]
            lengths = _scaled(block, part, begin, raw.path, ids)
            rescaled = rescaled or bool((np.abs(lengths - 1.0) > UNIT_TOLERANCE).any())
            varied = varied or bool((np.abs(part - unit[0]) > _SAME).any())
            bar.update(len(block))
    if start != count:
        raise InputError(
            f"{count} rows are announced, another number is there.", remedy="Write it again.", path=raw.path
        )
    if not varied:
        raise InputError(
            f"all {count} vectors point the same way, so nothing can be told apart.",
            remedy="Check what encoded them; a model that was not loaded gives one vector for all texts.",
            path=raw.path,
        )
    return unit, rescaled


def _scaled(block: NDArray[Any], unit: Vectors, start: int, path: Path, ids: tuple[str, ...]) -> NDArray[np.float64]:
    """Write the block's rows at length 1 to `unit` and return their lengths, float64 [b]."""
    with np.errstate(invalid="ignore", over="ignore"):  # said below, by row
        rows = block.astype(np.float64)
        lengths = divisors = _lengths(rows)
    if not (np.isfinite(lengths) & (lengths > _SHORTEST)).all():
        # Squares of float64 can overflow and vanish, so by the largest number of a row first.
        peaks = np.abs(rows).max(axis=1)
        _require_direction(peaks, start, path, ids)
        rows /= peaks[:, None]
        divisors = _lengths(rows)
    np.divide(rows, divisors[:, None], out=unit, casting="same_kind")
    return lengths


def _lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows)
    return np.sqrt(squares)


def _require_direction(peaks: NDArray[np.float64], start: int, path: Path, ids: tuple[str, ...]) -> None:
    """Refuse rows by their largest absolute number, float64 [b]: NaN or infinity comes through, zero means zeros."""
    wrong = np.flatnonzero(~np.isfinite(peaks) | (peaks == 0))
    if len(wrong):
        row = start + int(wrong[0])
        problem = "is all zeros" if peaks[wrong[0]] == 0 else "holds NaN or infinity"
        raise InputError(
            f"row {row} (counted from 0, id {ids[row]!r}) {problem}; it has no direction.",
            remedy="Encode that text again, or leave it out here and among the ids.",
            path=path,
        )
