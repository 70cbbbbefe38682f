"""The files an encoder is trained and tested on: pairs of a query and its positive, and a corpus with queries.

`train.json`, `val.json`: a list of {"query", "positive", "negative"}, the last one optional. `test_eval.json`:
{"corpus": [text], "queries": [text], "relevance": [[index into the corpus]]}. Pairs may also come as CSV.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jasper_rag.atomic_files import write_json
from jasper_rag.errors import InputError
from jasper_rag.text.readers.rows import Row, shown
from jasper_rag.text.readers.tables import table_rows
from jasper_rag.text.readers.utf8 import utf8_lines

_PAIR = '{"query": "...", "positive": "...", "negative": "..."}'
_PREPARE = "python scripts/prepare_data.py  makes such files."


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A query, a text that answers it, and one that does not.

    Args:
        query: Not blank.
        positive: Not blank.
        negative: "" where there is none.
    """

    query: str
    positive: str
    negative: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Documents, queries, and which documents answer each.

    Args:
        corpus: N texts.
        queries: Q texts.
        relevance: Per query the rows of the corpus that answer it, at least one.
    """

    corpus: tuple[str, ...]
    queries: tuple[str, ...]
    relevance: tuple[tuple[int, ...], ...]


def read_examples(path: str | Path) -> tuple[TrainingExample, ...]:
    """Read a JSON list of pairs.

    Errors name the entry, counted from 1, where text files have a line.

    Raises:
        InputError: The file is missing, no such list, empty, or an entry lacks a text.
    """
    path = Path(path)
    entries = _json(path)
    if not isinstance(entries, list):
        problem = f"a list of pairs is expected, got {shown(entries)}."
        if isinstance(entries, dict) and {"corpus", "queries", "relevance"} <= entries.keys():
            problem = "this is a test set (corpus, queries, relevance), not a list of pairs."
        raise InputError(problem, remedy=f"Write [{_PAIR}, ...]; {_PREPARE}", path=path)
    if not entries:
        raise InputError("the list is empty.", remedy=f"Write at least one {_PAIR}.", path=path)
    return tuple(_example(entry, number, path) for number, entry in enumerate(entries, start=1))


def read_examples_csv(path: str | Path) -> tuple[TrainingExample, ...]:
    """Read a CSV or TSV with the columns query, positive and, optionally, negative.

    Raises:
        InputError: The file is missing, malformed, lacks a column, or a row lacks a text.
    """
    path = Path(path)
    header, rows = table_rows(path)
    for column in ("query", "positive"):
        if column not in header:
            raise InputError(
                f"the column is missing; the header has {', '.join(map(repr, header))}.",
                remedy="Expected columns: query,positive,negative (the last one is optional).",
                path=path,
                line=1,
                field=column,
            )
    return tuple(_from_row(row) for row in rows)


def write_examples(path: str | Path, examples: Iterable[TrainingExample]) -> None:
    """Write pairs as `read_examples` reads them, atomically; a negative that is "" is left out."""
    write_json(path, [as_json(example) for example in examples])


def as_json(example: TrainingExample) -> dict[str, str]:
    """A pair as its file holds it."""
    entry = {"query": example.query, "positive": example.positive}
    return {**entry, "negative": example.negative} if example.negative else entry


def read_evaluation_set(path: str | Path) -> EvaluationSet:
    """Read a `test_eval.json`.

    A query's row that stands twice counts once.

    Raises:
        InputError: The file is missing, no such object, empty, or a row is out of range.
    """
    path = Path(path)
    given = _json(path)
    if not isinstance(given, dict) or not {"corpus", "queries", "relevance"} <= given.keys():
        found = ", ".join(map(repr, given)) if isinstance(given, dict) else shown(given)
        raise InputError(
            f'an object with "corpus", "queries" and "relevance" is expected, got {found or "nothing"}.',
            remedy=_PREPARE,
            path=path,
        )
    corpus, queries = (_texts(given, field, path) for field in ("corpus", "queries"))
    relevance = given["relevance"]
    if not isinstance(relevance, list) or len(relevance) != len(queries):
        count = len(relevance) if isinstance(relevance, list) else shown(relevance)
        problem = f"{count} entries, but there are {len(queries)} queries."
        raise InputError(problem, remedy="Give one list of corpus rows per query.", path=path, field="relevance")
    rows = tuple(_relevant(entry, number, len(corpus), path) for number, entry in enumerate(relevance))
    return EvaluationSet(corpus, queries, rows)


def write_evaluation_set(path: str | Path, evaluation: EvaluationSet) -> None:
    """Write a `test_eval.json`, atomically."""
    value = {"corpus": evaluation.corpus, "queries": evaluation.queries, "relevance": evaluation.relevance}
    write_json(path, value)


def read_lines(path: str | Path) -> list[str]:
    """The texts of a file with one document per line; blank lines are skipped.

    Raises:
        InputError: The file is missing, not UTF-8, or has no text.
    """
    path = Path(path)
    texts = [line.strip() for _, line in utf8_lines(path) if line.strip()]
    if not texts:
        raise InputError("this file has no text.", remedy="Write one document per line.", path=path)
    return texts


def read_text_folder(directory: str | Path) -> list[str]:
    """The texts of all `.txt` files below a folder, one document each, by path; blank files are skipped.

    Raises:
        InputError: There is no such folder, no such file in it, or one cannot be read.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError("there is no such folder.", remedy="Give a folder with .txt files.", path=directory)
    paths = sorted(path for path in directory.rglob("*.txt") if path.is_file())
    texts = ["".join(line for _, line in utf8_lines(path)).strip() for path in paths]
    texts = [text for text in texts if text]
    if not texts:
        problem = "no .txt file with text in this folder or below it."
        raise InputError(problem, remedy="Write one document per .txt file.", path=directory)
    return texts


def _json(path: Path) -> Any:
    if not path.exists():
        raise InputError("this file does not exist.", remedy=f"Check the path; {_PREPARE}", path=path)
    text = "".join(line for _, line in utf8_lines(path))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} (column {error.colno})."
        raise InputError(problem, remedy=_PREPARE, path=path, line=error.lineno) from error
    except RecursionError as error:
        raise InputError("not such a file: brackets nested too deep.", remedy=_PREPARE, path=path) from error


def _example(entry: object, number: int, path: Path) -> TrainingExample:
    if not isinstance(entry, Mapping):
        problem = f"entry {number} is {shown(entry)}."
        raise InputError(problem, remedy=f"Every entry has to be {_PAIR}.", path=path, line=number)
    return _from_row(Row(path, number, entry))


def _from_row(row: Row) -> TrainingExample:
    query, positive = row.text("query").strip(), row.text("positive").strip()
    return TrainingExample(query, positive, row.optional_text("negative").strip())


def _texts(given: Mapping[str, Any], field: str, path: Path) -> tuple[str, ...]:
    texts = given[field]
    if not isinstance(texts, list) or not texts:
        problem = f"a list of texts is expected, got {shown(texts)}."
        raise InputError(problem, remedy=_PREPARE, path=path, field=field)
    return tuple(Row(path, number, {field: text}).text(field) for number, text in enumerate(texts, start=1))


def _relevant(entry: object, number: int, size: int, path: Path) -> tuple[int, ...]:
    rows: Sequence[Any] = entry if isinstance(entry, list) else ()
    good = [row for row in rows if isinstance(row, int) and not isinstance(row, bool) and 0 <= row < size]
    if not rows or len(good) != len(rows):
        raise InputError(
            f"the entry of query {number} is {shown(entry)}.",
            remedy=f"Give a list of rows of the corpus, 0 to {size - 1}, at least one.",
            path=path,
            line=number + 1,
            field="relevance",
        )
    return tuple(dict.fromkeys(good))
