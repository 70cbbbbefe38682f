from __future__ import annotations

from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.readers.question_file import read_questions
from jasper_rag.text.records import Query


def file_of(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, "q.jsonl", '{"_id": "a", "text": "one"}\n\n{"id": 7, "question": "two"}\n{"query": "three"}\n'
    )
    assert list(read_questions(path)) == [Query("a", "one"), Query("7", "two"), Query("4", "three")]


def test_plain_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.txt", "\ufeffone \r\n\n two\n")
    assert list(read_questions(path)) == [Query("1", "one"), Query("3", "two")]


def test_reads_as_it_goes(tmp_path: Path) -> None:
    path = file_of(tmp_path, "q.jsonl", '{"_id": "a", "text": "one"}\nnot json\n')
    questions = read_questions(path)
    assert next(questions) == Query("a", "one")
    with pytest.raises(InputError, match=r"q\.jsonl:2"):
        next(questions)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.jsonl", "", "empty"),
        ("q.txt", "\n \n", "no question in this file"),
        ("q.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', ":2 .*'a'"),
        ("q.jsonl", '{"_id": "a"}\n', ":1 .*the field is missing"),
        ("q.jsonl", '{"_id": "a", "text": " "}\n', ":1 .*empty"),
        ("q.jsonl", '{"_id": "a", "text": 3}\n', ":1 .*a string is expected"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_questions(file_of(tmp_path, name, text)))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(read_questions(tmp_path / "q.txt"))
