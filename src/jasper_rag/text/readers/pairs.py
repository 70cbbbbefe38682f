"""From rows with named columns to a retrieval set: documents only, or pairs of question and document."""

from __future__ import annotations

import difflib
import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.rows import Row, split_name
from jasper_rag.text.records import Document, Query, RetrievalSet

logger = logging.getLogger(__name__)

DEFAULT_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "question", "anchor"),
    "document": ("document", "positive", "answer", "context", "passage", "text", "source"),
    "id": ("id", "_id"),
    "query_id": ("query_id", "query-id"),
    "title": ("title",),
    "topic": ("topic",),
    "split": ("split",),
}
"""Our fields and the column names tried for each, in this order."""

FIELD_NAMES: Mapping[str, str] = {name: field for field, names in DEFAULT_COLUMNS.items() for name in (field, *names)}
"""Every name by which a field may be called -> the field."""


def set_from_rows(
    rows: Sequence[Row],
    found: Sequence[str],
    path: Path,
    name: str,
    columns: Mapping[str, str] | None = None,
) -> RetrievalSet:
    """Build a set from rows; a file with a question column holds pairs, one without holds documents.

    Documents only: every row is a document, in file order; `id` must be unique where given, else d0, d1, ...
    Pairs: rows with the same document text are one document (the first row's id, title and topic count), rows
    with the same question are one query with several relevant documents. `id` is the document's id, `query_id`
    the question's; where absent they are d0, d1, ... and q0, q1, ... in order of first appearance. Judgements are
    1, under the row's `split`, or under "all" where the file has no such column.

    Args:
        rows: The records.
        found: All column names of the file.
        path: The file, for messages.
        name: Name of the set.
        columns: Our field, by any of its `FIELD_NAMES` -> the file's column, over the defaults.

    Raises:
        InputError: A named column is not there, no document column is found, or a row is bad.
    """
    chosen = resolve_columns(found, path, columns)
    logger.info("%s: columns read: %s", path, chosen)
    if "query" not in chosen:
        return RetrievalSet(name, _documents(rows, chosen), ())
    pairs = _Pairs(chosen)
    for row in rows:
        pairs.add(row)
    return pairs.retrieval_set(name)


def resolve_columns(found: Sequence[str], path: Path, columns: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our field -> the file's column, for the fields the file has.

    Raises:
        InputError: See `named_fields`; or a column the file does not have, or none that could be the document.
    """
    given = named_fields((columns or {}).items())
    listed = ", ".join(map(repr, found))
    for field, column in given.items():
        if column not in found:
            near = next((name for name in found if name.lower() == column.lower()), None)
            near = near or next(iter(difflib.get_close_matches(column, found, n=1)), None)
            raise InputError(
                f"there is no column {column!r}; the file has {listed}.",
                remedy="Name one of these." if near is None else f"Did you mean {near!r}?",
                path=path,
                field=field,
            )
    taken = set(given.values())
    chosen = dict(given)
    for field, candidates in DEFAULT_COLUMNS.items():
        if field not in chosen:
            present = [column for column in candidates if column in found and column not in taken]
            if present:
                chosen[field] = present[0]
    if "document" not in chosen:
        tried = ", ".join(DEFAULT_COLUMNS["document"])
        example = next((column for column in found if column not in chosen.values()), "NAME")
        flag = shlex.quote(f"answer={example}")
        raise InputError(
            f"no column holds the document; the file has {listed}.",
            remedy=f"Tried {tried}. Name it, for example columns={{'answer': {example!r}}}, or on the command line "
            f"--columns {flag}",
            path=path,
            field="document",
        )
    return chosen


def named_fields(columns: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return our field -> the file's column, from pairs of a field, by any of its `FIELD_NAMES`, and a column.

    Raises:
        InputError: An unknown field, a field given twice, or one column that is both question and answer.
    """
    fields: dict[str, str] = {}
    for name, column in columns:
        field = FIELD_NAMES.get(name.lower())
        if field is None:
            raise _unknown_field(name, column)
        if field in fields:
            same = ", ".join(other for other, meant in FIELD_NAMES.items() if meant == field)
            raise InputError(
                f"the {field} is given twice: the columns {fields[field]!r} and {column!r}.",
                remedy=f"Keep one of them; these names mean the same: {same}.",
                field="columns",
            )
        fields[field] = column
    if "query" in fields and fields["query"] == fields.get("document"):
        raise InputError(
            f"the column {fields['query']!r} is given as the question and as the answer.",
            remedy="Name two columns, or leave out the one that the file does not have.",
            field="columns",
        )
    return fields


def _unknown_field(name: str, column: str) -> InputError:
    known = "; ".join(" or ".join(dict.fromkeys((field, *names))) for field, names in DEFAULT_COLUMNS.items())
    near = difflib.get_close_matches(name.lower(), FIELD_NAMES, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    if column.lower() in FIELD_NAMES:
        hint = f"The field comes first: {column}={name}. "
    return InputError(
        f"unknown field {name!r} for the column {column!r}.", remedy=f"{hint}The fields are: {known}.", field="columns"
    )


def _documents(rows: Sequence[Row], chosen: Mapping[str, str]) -> tuple[Document, ...]:
    documents: dict[str, tuple[int, Document]] = {}
    for number, row in enumerate(rows):
        document = _document(row, chosen, f"d{number}")
        first = documents.setdefault(document.id, (row.line, document))
        if first[1] is not document:
            raise row.fault(
                f"the id {document.id!r} was already given at line {first[0]}.",
                f"Make ids unique: change line {first[0]} or line {row.line}.",
                chosen["id"],
            )
    return tuple(document for _, document in documents.values())


def _document(row: Row, chosen: Mapping[str, str], generated: str) -> Document:
    return Document(
        id=row.identifier(chosen["id"]) if "id" in chosen else generated,
        text=row.text(chosen["document"]),
        title=row.optional_text(chosen["title"]) if "title" in chosen else "",
        topic=row.optional_text(chosen["topic"]) if "topic" in chosen else "",
    )


class _Pairs:
    """Merges equal documents and equal questions as the rows come in."""

    def __init__(self, chosen: Mapping[str, str]) -> None:
        self.chosen = chosen
        self.documents: dict[str, Document] = {}  # by text
        self.queries: dict[str, Query] = {}  # by text
        self.splits: dict[str, tuple[str, int]] = {}  # query id -> split, line
        self.text_of_id: dict[tuple[str, str], tuple[str, int]] = {}  # (kind, id) -> text, line
        self.qrels: dict[str, dict[str, dict[str, int]]] = {}

    def add(self, row: Row) -> None:
        document = self._merged_document(row)
        query = self._merged_query(row)
        split = self._split(row, query)
        self.qrels.setdefault(split, {}).setdefault(query.id, {})[document.id] = 1

    def retrieval_set(self, name: str) -> RetrievalSet:
        return RetrievalSet(name, tuple(self.documents.values()), tuple(self.queries.values()), self.qrels)

    def _merged_document(self, row: Row) -> Document:
        document = _document(row, self.chosen, f"d{len(self.documents)}")
        if "id" in self.chosen:
            self._same_text("id", document.id, document.text, row)
        return self.documents.setdefault(document.text, document)

    def _merged_query(self, row: Row) -> Query:
        text = row.text(self.chosen["query"])
        identifier = f"q{len(self.queries)}"
        if "query_id" in self.chosen:
            identifier = row.identifier(self.chosen["query_id"])
            self._same_text("query_id", identifier, text, row)
        return self.queries.setdefault(text, Query(identifier, text))

    def _same_text(self, kind: str, identifier: str, text: str, row: Row) -> None:
        first, line = self.text_of_id.setdefault((kind, identifier), (text, row.line))
        if first != text:
            raise row.fault(
                f"the id {identifier!r} stands for another text at line {line}.",
                f"Give the two texts two ids, or the same text on line {line} and line {row.line}.",
                self.chosen[kind],
            )

    def _split(self, row: Row, query: Query) -> str:
        if "split" not in self.chosen:
            return "all"
        split = split_name(row.text(self.chosen["split"]))
        first, line = self.splits.setdefault(query.id, (split, row.line))
        if first != split:
            raise row.fault(
                f"this question is in split {split!r} here and in {first!r} at line {line}.",
                "A question belongs to one split; drop one of the two rows or change its split.",
                self.chosen["split"],
            )
        return split
