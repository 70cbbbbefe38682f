"""`--columns question=Frage,answer=Antwort`: which column of a table holds what."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Annotated

import typer

from jasper_rag.errors import InputError

HOW = "Write FIELD=COLUMN, for example --columns question=Frage,answer=Antwort,id=Nr."

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,...",
        help="Columns of a table by their names there, such as question=Frage,answer=Antwort. "
        "Fields: question, answer, id, query_id, title, topic, split. Repeatable.",
    ),
]


def parse_columns(values: Sequence[str] | None) -> dict[str, str]:
    """Return our field -> the table's column, for `read_retrieval_set(..., columns=...)`.

    Args:
        values: What was given, each `FIELD=COLUMN` or several of them with commas between; a column whose name has
            a comma stands in double quotes with its field: `"question=Frage, kurz",id=Nr`.

    Raises:
        InputError: A part without "=", without a column or with bad quotes; an unknown field, or one given twice.
    """
    from jasper_rag.text.readers.pairs import named_fields

    return named_fields(column_pairs(values))


def column_pairs(values: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return (field, column) pairs in their order, whatever the fields are called; errors as `parse_columns`."""
    return [_pair(part) for value in values or () for part in _parts(value)]


def _parts(value: str) -> list[str]:
    try:
        (parts,) = list(csv.reader([value], skipinitialspace=True, strict=True)) or [[]]
    except csv.Error as error:
        raise InputError(f"{value!r} has bad quotes ({error}).", remedy=HOW, field="columns") from error
    named = [part for part in parts if part.strip()]
    if not named:
        raise InputError("no column is named.", remedy=HOW, field="columns")
    return named


def _pair(part: str) -> tuple[str, str]:
    field, equals, column = (piece.strip() for piece in part.partition("="))
    if not (equals and field and column):
        lacks = "'='" if not equals else "a field" if not field else "a column"
        raise InputError(f"{part!r} lacks {lacks}.", remedy=HOW, field="columns")
    return field, column
