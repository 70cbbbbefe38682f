from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jasper_rag.embedding.vector_tables import id_column, parquet_vectors
from jasper_rag.errors import InputError

VALUES = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def lists(kind: Any, values: Any = VALUES) -> Any:
    half = kind.value_type == pa.float16()  # its numbers must be NumPy's
    return pa.array(
        [None if row is None else list(np.asarray(row, dtype=np.float16) if half else row) for row in values], type=kind
    )


def written(path: Path, columns: dict[str, Any], row_group_size: int | None = None) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.list_(pa.float16()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("row_group_size", [None, 2])
def test_blocks_are_the_column(tmp_path: Path, kind: Any, rows: int, row_group_size: int | None) -> None:
    path = written(tmp_path / "v.parquet", {"id": list("abcde"), "e": lists(kind)}, row_group_size)
    for column in (None, "e"):
        raw = parquet_vectors(path, column)
        blocks = list(raw.blocks(rows))
        assert max(map(len, blocks)) <= rows
        np.testing.assert_array_equal(np.concatenate(blocks), pq.read_table(path)["e"].to_pylist())
        assert raw.shape == (5, 3)


@pytest.mark.parametrize(
    ("columns", "column", "problem"),
    [
        ({"a": [1], "b": ["x"]}, None, r"'a' \(int64\), 'b' \(string\)"),
        ({"a": [[1.0]], "b": [[2.0]]}, None, "one column of lists of floats"),
        ({"a": [[1, 2]]}, None, "one column of lists of floats"),
        ({"a": [[1.0]], "b": [[2]]}, "b", r"\[b\]: lists of floats .* holds list<"),
        ({"a": [[1.0]]}, "c", r"\[vector\]: there is no column 'c'; the file has 'a'"),
        ({"a": pa.array([], type=pa.list_(pa.float32()))}, None, r"shape \[0, 0\]"),
        ({"a": pa.array([[]], type=pa.list_(pa.float32()))}, None, r"shape \[1, 0\]"),
        ({"a": pa.array([None, [1.0]], type=pa.list_(pa.float32()))}, None, "row 0 .*no vector"),
    ],
)
def test_no_such_column(tmp_path: Path, columns: dict[str, Any], column: str | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        parquet_vectors(written(tmp_path / "v.parquet", columns), column)
    assert caught.value.remedy


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)], ids=str)
def test_bad_rows_are_named(tmp_path: Path, kind: Any) -> None:
    for bad, problem in ((None, "row 3 .* no vector"), ([1.0, None], r"row 3 .* lacks a number")):
        path = written(tmp_path / "v.parquet", {"e": lists(kind, [[1.0, 2.0]] * 3 + [bad, [1.0, 2.0]])})
        with pytest.raises(InputError, match=rf"\[e\]: {problem}"):
            list(parquet_vectors(path).blocks(2))


def test_lists_of_another_length(tmp_path: Path) -> None:
    path = written(tmp_path / "v.parquet", {"e": lists(pa.list_(pa.float32()), [[1.0, 2.0]] * 3 + [[1.0, 2.0, 3.0]])})
    with pytest.raises(InputError, match=r"row 3 .* has 3 numbers, row 0 has 2"):
        list(parquet_vectors(path).blocks(2))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["id", "e"], "id"),
        (["doc_id", "id"], "id"),
        (["_id", "id"], "_id"),
        (["qid"], "qid"),
        (["docid"], "docid"),
        (["e"], None),
    ],
)
def test_finds_the_ids(tmp_path: Path, names: list[str], found: str | None) -> None:
    assert id_column(written(tmp_path / "v.parquet", {name: ["x"] for name in names})) == found


def test_ids_of_two_things_must_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "v.parquet", {"query-id": ["q"], "corpus-id": ["d"]})
    with pytest.raises(InputError, match=r"\[id\]: several columns hold ids: 'corpus-id', 'query-id'"):
        id_column(path)
    assert id_column(path, "query-id") == "query-id"
    with pytest.raises(InputError, match="no column 'x'"):
        id_column(path, "x")
