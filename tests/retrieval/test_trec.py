from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.retrieval.trec import read_run, write_run

IDS = st.text(st.characters(codec="utf-8") | st.sampled_from(" %20A\n\u2028"), min_size=1, max_size=8)


def test_lines_are_those_of_the_format(tmp_path: Path) -> None:
    rows, scores = np.array([[1, 0], [2, -1]]), np.array([[2.5, 0.1], [-1.0, -np.inf]], dtype=np.float32)
    write_run(tmp_path / "x.run", ["q1", "q 2"], ["d0", "100%", "a%20b"], rows, scores, "bm25")
    assert (tmp_path / "x.run").read_text().splitlines() == [
        "q1 Q0 100% 1 2.5 bm25",
        "q1 Q0 d0 2 0.100000001 bm25",
        "q%202 Q0 a%2520b 1 -1 bm25",
    ]
    with (tmp_path / "x.run").open() as stream:
        assert pytrec_eval.parse_run(stream)["q1"] == {"100%": 2.5, "d0": 0.100000001}
    assert read_run(tmp_path / "x.run")["q 2"] == {"a%20b": -1.0}
    assert read_run(tmp_path / "x.run", unescape=False)["q%202"] == {"a%2520b": -1.0}


@pytest.mark.slow
@given(st.lists(IDS, min_size=1, max_size=40, unique=True), st.lists(IDS, min_size=1, max_size=3, unique=True))
def test_any_id_survives_writing_and_reading(document_ids: list[str], query_ids: list[str]) -> None:
    generator = np.random.default_rng(0)
    rows = np.tile(np.arange(len(document_ids)), (len(query_ids), 1))
    scores = generator.standard_normal(rows.shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        write_run(Path(directory) / "x.run", query_ids, document_ids, rows, scores, "tag")
        found = read_run(Path(directory) / "x.run")
    assert list(found) == query_ids
    for query, expected in zip(query_ids, scores, strict=True):
        assert list(found[query]) == document_ids
        np.testing.assert_array_equal(np.array(list(found[query].values()), dtype=np.float32), expected)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"tag": "two words"}, InputError, "tag 'two words'"),
        ({"tag": ""}, InputError, "tag ''"),
        ({"query_ids": [""]}, InputError, "empty id"),
        ({"query_ids": ["a", "b"]}, ValueError, "2 queries"),
        ({"rows": np.array([[0, 9]])}, ValueError, "row 9 lies outside the corpus of 2"),
        ({"rows": np.array([[0, 0]])}, ValueError, "'q' lists a document twice"),
        ({"scores": np.array([[1.0, np.nan]])}, ValueError, "not finite"),
    ],
)
def test_bad_runs_are_not_written(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {
        "query_ids": ["q"],
        "document_ids": ["a", "b"],
        "rows": np.array([[0, 1]]),
        "scores": np.array([[2.0, 1.0]]),
        "tag": "t",
    }
    with pytest.raises(error, match=message):
        write_run(tmp_path / "x.run", **(arguments | changes))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_run_is_an_empty_file(tmp_path: Path) -> None:
    write_run(tmp_path / "x.run", [], [], np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3)), "t")
    assert read_run(tmp_path / "x.run") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"q Q0 d 1 0.5 t\n\nq Q0 d 1\n", r"x.run:3: 4 columns"),
        (b"q Q0 d 1 high t\n", r"x.run:1: score 'high'"),
        (b"q Q0 d 1 nan t\n", r"x.run:1: score 'nan'"),
        (b"q Q0 d 1 2 t\nq Q0 d 2 1 t\n", r"x.run:2: document 'd' stands twice under query 'q'"),
        (b"q Q0 \xff 1 2 t\n", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.run").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path / "x.run")
