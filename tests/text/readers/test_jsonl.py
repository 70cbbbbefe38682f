from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.readers.jsonl import read_jsonl
from jasper_rag.text.records import Document, Query


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_documents_only(tmp_path: Path) -> None:
    path = write(tmp_path / "faq.jsonl", {"text": "a", "title": "A", "topic": "t"}, {"text": "b"}, {"text": "a"})
    found = read_jsonl(path)
    assert found.name == "faq"
    assert found.documents == (Document("d0", "a", "A", "t"), Document("d1", "b"), Document("d2", "a"))
    assert found.queries == ()
    assert found.qrels == {}


def test_documents_with_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"_id": 5, "text": "a"}, {"_id": "b", "text": "b"})
    assert [d.id for d in read_jsonl(path).documents] == ["5", "b"]
    write(path, {"_id": 5, "text": "a"}, {"_id": "5", "text": "b"})
    with pytest.raises(InputError, match="already given at line 1") as caught:
        read_jsonl(path)
    assert (caught.value.line, caught.value.field) == (2, "_id")


def test_pairs_merge_equal_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"question": "who?", "answer": "me"},
        {"question": "who?", "answer": "you"},
        {"question": "whose?", "answer": "me"},
    )
    found = read_jsonl(path, name="pairs")
    assert found.name == "pairs"
    assert found.documents == (Document("d0", "me"), Document("d1", "you"))
    assert found.queries == (Query("q0", "who?"), Query("q1", "whose?"))
    assert found.qrels == {"all": {"q0": {"d0": 1, "d1": 1}, "q1": {"d0": 1}}}


def test_pairs_with_ids_and_splits(tmp_path: Path) -> None:
    row = {"anchor": "who?", "positive": "me", "id": "D", "query_id": "Q", "split": "Val"}
    found = read_jsonl(write(tmp_path / "p.jsonl", row, {**row, "id": "E"}, {**row, "query_id": "R"}))
    assert found.documents == (Document("D", "me"),)
    assert found.queries == (Query("Q", "who?"),)
    assert found.qrels == {"dev": {"Q": {"D": 1}}}


@pytest.mark.parametrize(
    ("change", "problem", "field"),
    [
        ({"positive": "you"}, "another text at line 1", "id"),
        ({"anchor": "whose?"}, "another text at line 1", "query_id"),
        ({"split": "test"}, "'test' here and in 'train' at line 1", "split"),
        ({"split": None}, "empty", "split"),
        ({"anchor": " "}, "empty", "anchor"),
        ({"positive": ["a"]}, "string", "positive"),
        ({"id": None}, "id is missing", "id"),
    ],
)
def test_contradicting_rows(tmp_path: Path, change: dict[str, Any], problem: str, field: str) -> None:
    row = {"anchor": "who?", "positive": "me", "id": "D", "query_id": "Q", "split": "train"}
    with pytest.raises(InputError, match=problem) as caught:
        read_jsonl(write(tmp_path / "p.jsonl", row, {**row, **change}))
    assert (caught.value.line, caught.value.field) == (2, field)


def test_a_row_without_the_field_lists_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this row has 'other'") as caught:
        read_jsonl(write(tmp_path / "p.jsonl", {"text": "a"}, {"other": "b"}))
    assert (caught.value.line, caught.value.field) == (2, "text")


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"frage": "wer?", "text": "ich", "quelle": "du", "title": "T"})
    found = read_jsonl(path, columns={"query": "frage", "positive": "quelle", "topic": "title"})
    assert found.documents == (Document("d0", "du", "", "T"),)  # a column that is taken is not the title as well
    assert found.queries == (Query("q0", "wer?"),)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"query": "frage"}, "no column 'frage'; the file has 'q', 'd'"),
        ({"wrong": "q"}, "unknown field 'wrong'"),
        ({"query": "q"}, "no column holds the document; the file has 'q', 'd'"),
        (None, "no column holds the document"),
    ],
)
def test_wrong_columns_list_what_was_found(tmp_path: Path, columns: dict[str, str] | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_jsonl(write(tmp_path / "p.jsonl", {"q": "a", "d": "b"}), columns=columns)


@pytest.mark.parametrize("line", ['{"text": "a", "text": "b"}', '{"text": "a", "more": {"x": 1, "x": 1}}'])
def test_a_key_stands_once(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "a", "more": [{"x": 1}, {"x": 2}]}\n' + line + "\n")
    with pytest.raises(InputError, match=r"the key '(text|x)' stands twice") as caught:
        read_jsonl(path)
    assert caught.value.line == 2


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_jsonl(tmp_path / "none.jsonl")
