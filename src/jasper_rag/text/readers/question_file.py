"""A file of questions to be searched: JSON lines with ids, or plain lines; read one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.readers.rows import UniqueIds
from jasper_rag.text.readers.utf8 import utf8_lines
from jasper_rag.text.records import Query

ID_FIELDS = ("_id", "id", "query_id")
TEXT_FIELDS = ("text", "question", "query")


def read_questions(path: str | Path) -> Iterator[Query]:
    """Yield the questions of a file: `.jsonl` (id and text of each line) or any other (a question per line).

    A JSON line's id is its `_id`, `id` or `query_id`, its question `text`, `question` or `query`. Plain lines, and
    JSON lines without any id, are numbered from 1 by their line; blank lines are skipped.

    Raises:
        InputError: The file is missing, empty or not UTF-8, a line is not a question, or an id occurs twice.
    """
    path = Path(path)
    found = False
    for query in _json_questions(path) if path.suffix == ".jsonl" else _plain_questions(path):
        found = True
        yield query
    if not found:
        raise InputError("there is no question in this file.", path=path, remedy="Write one question per line.")


def _json_questions(path: Path) -> Iterator[Query]:
    seen = UniqueIds()
    for row in json_rows(path):
        key = next((field for field in ID_FIELDS if field in row.values), None)
        field = next((field for field in TEXT_FIELDS if field in row.values), TEXT_FIELDS[0])
        text = row.text(field)
        yield Query(str(row.line) if key is None else seen.add(row, key), text)


def _plain_questions(path: Path) -> Iterator[Query]:
    for number, line in utf8_lines(path):
        if line.strip():
            yield Query(str(number), line.strip())
