"""JSON lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.pairs import set_from_rows
from jasper_rag.text.readers.rows import Row, shown, unique_keys
from jasper_rag.text.readers.utf8 import utf8_lines
from jasper_rag.text.records import RetrievalSet


def json_rows(path: Path) -> Iterator[Row]:
    """Yield every object of a JSON-lines file; blank lines are skipped.

    Raises:
        InputError: The file is missing, empty or not UTF-8, or a line is not one JSON object.
    """
    empty = True
    for number, line in utf8_lines(path):
        text = line.strip(" \t\r\n")
        if text:
            empty = False
            yield Row(path, number, _json_object(text, path, number))
    if empty:
        raise InputError("this file is empty.", remedy="Write one JSON object per line.", path=path)


def read_jsonl(path: str | Path, name: str | None = None, columns: Mapping[str, str] | None = None) -> RetrievalSet:
    """Read documents, or pairs of question and document, from JSON lines.

    See `jasper_rag.text.readers.pairs.set_from_rows` for the fields and for how rows are merged.

    Args:
        path: The `.jsonl` file.
        name: Name of the set; the file's stem by default.
        columns: Our field names -> the file's keys, where they differ from the defaults.

    Raises:
        InputError: Anything wrong with the file, with its line and field.
    """
    path = Path(path)
    rows = list(json_rows(path))
    found = tuple(dict.fromkeys(key for row in rows for key in row.values))
    return set_from_rows(rows, found, path, name or path.stem, columns)


def _json_object(text: str, path: Path, number: int) -> dict[str, object]:
    try:
        value = json.loads(text, object_pairs_hook=unique_keys)
    except RecursionError as error:
        raise InputError(
            "nested too deeply to be read.", remedy="Flatten the record.", path=path, line=number
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON: {error.msg} at column {error.colno}.",
            remedy="Each line must be one whole JSON object; line breaks inside a text are written \\n.",
            path=path,
            line=number,
        ) from error
    except ValueError as error:  # a key given twice, a number of thousands of digits
        raise InputError(
            f"not readable JSON: {error}.",
            remedy="Give every key once, and write a long number as a string.",
            path=path,
            line=number,
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"a JSON object is expected, got {shown(value)}.",
            remedy='Write one object per line, such as {"_id": "1", "text": "..."}.',
            path=path,
            line=number,
        )
    return value
