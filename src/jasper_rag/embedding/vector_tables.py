"""Vectors in a Parquet file: a column of lists of floats beside a column of ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.vector_arrays import RawVectors, require_matrix
from jasper_rag.errors import InputError
from jasper_rag.text.readers.parquet import opened_parquet
from jasper_rag.text.readers.subsets import DOCUMENT_IDS, JUDGED_DOCUMENTS, JUDGED_QUERIES, QUERY_IDS

ID_COLUMNS = tuple(dict.fromkeys(DOCUMENT_IDS + QUERY_IDS + JUDGED_DOCUMENTS + JUDGED_QUERIES))
"""Columns tried for the id, in this order; the first two are anybody's, the others a document's or a query's."""

_ANYBODYS = 2


def id_column(path: Path, column: str | None = None) -> str | None:
    """Return the column with the ids, or None if there is none.

    Args:
        path: The file.
        column: The column as named by the user, who is believed.

    Raises:
        InputError: The named column is not there, or ids of different things are.
    """
    with opened_parquet(path) as file:
        names = list(file.schema_arrow.names)
    if column is not None:
        _require(column, names, path, "id")
        return column
    found = [candidate for candidate in ID_COLUMNS if candidate in names]
    if len(found) > 1 and found[0] not in ID_COLUMNS[:_ANYBODYS]:
        raise InputError(
            f"several columns hold ids: {', '.join(map(repr, found))}.",
            remedy=f"Name the one that belongs to the vectors: columns={{'id': {found[0]!r}}}.",
            path=path,
            field="id",
        )
    return found[0] if found else None


def parquet_vectors(path: Path, column: str | None = None) -> RawVectors:
    """Open a column of lists, all of one length, of 16-, 32- or 64-bit floats.

    Args:
        path: The file.
        column: The column as named by the user; may be None where only one is such a column.

    Raises:
        InputError: The file cannot be read, has no such column, or several and none is named. While it is read: a
            list is missing or of another length.
    """
    with opened_parquet(path) as file:
        column = _vector_column({field.name: field.type for field in file.schema_arrow}, path, column)
        count = file.metadata.num_rows
        first = [batch.column(0)[0].as_py() for batch in islice(file.iter_batches(1, columns=[column]), 1)]
    if first == [None]:
        raise _without_vector(0, path, column)
    count, width = require_matrix((count, len(first[0]) if first else 0), path, column)

    def blocks(rows: int) -> Iterator[NDArray[Any]]:
        start = 0
        with opened_parquet(path) as file:
            for batch in file.iter_batches(batch_size=rows, columns=[column]):
                yield _dense(batch.column(0), width, start, path, column)
                start += len(batch)

    return RawVectors(path, (count, width), blocks)


def _vector_column(types: Mapping[str, Any], path: Path, column: str | None) -> str:
    floats = [name for name, kind in types.items() if _is_floats(kind)]
    listed = ", ".join(f"{name!r} ({kind})" for name, kind in types.items())
    if column is not None:
        _require(column, list(types), path, "vector")
        if column not in floats:
            raise InputError(
                f"lists of floats are expected in this column, it holds {types[column]}.",
                remedy="Write the vectors as lists of float32, all of one length.",
                path=path,
                field=column,
            )
        return column
    if len(floats) != 1:
        raise InputError(
            f"one column of lists of floats is expected; the file has {listed}.",
            remedy=f"Name the one with the vectors: columns={{'vector': {next(iter(floats), '...')!r}}}.",
            path=path,
            field="vector",
        )
    return floats[0]


def _is_floats(kind: Any) -> bool:
    import pyarrow

    is_list = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)
    return is_list and bool(pyarrow.types.is_floating(kind.value_type))


def _require(column: str, names: Sequence[str], path: Path, field: str) -> None:
    if column not in names:
        raise InputError(
            f"there is no column {column!r}; the file has {', '.join(map(repr, names))}.",
            remedy="Name one of these.",
            path=path,
            field=field,
        )


def _dense(lists: Any, width: int, start: int, path: Path, column: str) -> NDArray[Any]:
    """Return lists of floats as an array [b, D]."""
    import pyarrow.compute

    lengths = pyarrow.compute.list_value_length(lists).fill_null(-1).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero(lengths != width)
    if len(odd) and lengths[odd[0]] < 0:
        raise _without_vector(start + int(odd[0]), path, column)
    if len(odd):
        raise InputError(
            f"row {start + odd[0]} (counted from 0) has {lengths[odd[0]]} numbers, row 0 has {width}.",
            remedy="Give every row a vector, all of one length.",
            path=path,
            field=column,
        )
    values = lists.flatten()
    if values.null_count:
        missing = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        raise InputError(
            f"row {start + missing[0] // width} (counted from 0) lacks a number (null).",
            remedy="Give every row a whole vector.",
            path=path,
            field=column,
        )
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array.reshape(-1, width)


def _without_vector(row: int, path: Path, column: str) -> InputError:
    return InputError(
        f"row {row} (counted from 0) has no vector (null).",
        remedy="Give every row a vector, or leave the row out.",
        path=path,
        field=column,
    )
