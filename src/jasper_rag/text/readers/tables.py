"""CSV and TSV: a header line, then one record per row, columns mapped by name."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.pairs import set_from_rows
from jasper_rag.text.readers.rows import Row
from jasper_rag.text.readers.utf8 import utf8_lines
from jasper_rag.text.records import RetrievalSet

DELIMITERS: Mapping[str, str] = {".csv": ",", ".tsv": "\t"}
"""File suffix -> what separates its columns."""


def read_table(path: str | Path, name: str | None = None, columns: Mapping[str, str] | None = None) -> RetrievalSet:
    """Read documents, or pairs of question and document, from a CSV or TSV file.

    Both use the quoting of RFC 4180: a field that holds the separator, a line break or begins with a quote is
    put in double quotes, quotes inside it doubled. See `jasper_rag.text.readers.pairs.set_from_rows` for the
    fields and for how rows are merged.

    Args:
        path: The `.csv` or `.tsv` file, UTF-8, first line the header.
        name: Name of the set; the file's stem by default.
        columns: Our field names -> the header's names, where they differ from the defaults.

    Raises:
        InputError: Anything wrong with the file, with its line and column.
    """
    path = Path(path)
    header, rows = table_rows(path)
    return set_from_rows(rows, header, path, name or path.stem, columns)


def table_rows(path: Path) -> tuple[tuple[str, ...], list[Row]]:
    """The header and the rows of a CSV or TSV file; blank lines are skipped.

    Raises:
        InputError: The file is missing, empty, without a row, not UTF-8, or not a well-formed table.
    """
    with _long_fields():
        records = list(_records(path, DELIMITERS.get(path.suffix.lower(), ",")))
    if not records:
        raise InputError("this file is empty.", remedy="Write a header line and one row per record.", path=path)
    header = _header(*records[0], path)
    rows = [_row(line, fields, header, path) for line, fields in records[1:]]
    if not rows:
        raise InputError("this file has a header and no row.", remedy="Add one row per record.", path=path)
    return header, rows


@contextmanager
def _long_fields() -> Iterator[None]:
    # The csv module refuses fields over 131,072 characters, and keeps that limit in one place for all.
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line the record starts at, fields); blank lines are skipped."""
    reader = csv.reader((line for _, line in utf8_lines(path)), delimiter=delimiter, strict=True)
    start = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"not a well-formed table: {error}.",
            remedy='Put a text with separators, line breaks or quotes in "...", and double the quotes inside it.',
            path=path,
            line=start,
        ) from error


def _header(line: int, fields: Sequence[str], path: Path) -> tuple[str, ...]:
    names = tuple(field.strip() for field in fields)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"the header names a column twice: {', '.join(map(repr, repeated))}.",
            remedy="Give every column its own name.",
            path=path,
            line=line,
        )
    for other in ";\t,|":
        if len(names) == 1 and len(names[0].split(other)) > 1:
            raise InputError(
                f"the header is one column, {names[0]!r}; it seems to be separated by {other!r}.",
                remedy="Separate columns by ',' in a .csv file and by tabs in a .tsv file.",
                path=path,
                line=line,
            )
    return names


def _row(line: int, fields: Sequence[str], header: Sequence[str], path: Path) -> Row:
    if len(fields) != len(header):
        raise InputError(
            f"{len(fields)} fields, but the header has {len(header)} columns.",
            remedy='Every row needs as many fields as the header; texts with separators go in "...".',
            path=path,
            line=line,
        )
    return Row(path, line, dict(zip(header, fields, strict=True)))
