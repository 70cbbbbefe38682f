"""Three tables, corpus, queries and qrels (the layout of MTEB and of BEIR on the Hugging Face hub), as one set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from jasper_rag.errors import InputError
from jasper_rag.text.readers.rows import Row, shown
from jasper_rag.text.records import Document, Query, RetrievalSet

DOCUMENT_IDS = ("_id", "id", "corpus-id", "corpus_id", "doc_id", "docid")
"""Columns tried for a document's id, in this order."""

QUERY_IDS = ("_id", "id", "query-id", "query_id")
"""Columns tried for a query's id, in this order; `JUDGED_QUERIES` and `JUDGED_DOCUMENTS` likewise in qrels."""

JUDGED_QUERIES = ("query-id", "query_id", "qid")
JUDGED_DOCUMENTS = ("corpus-id", "corpus_id", "doc_id", "docid")

_Record = TypeVar("_Record", Document, Query)
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


class Table(NamedTuple):
    """Rows with named columns.

    Args:
        place: Where they come from, for messages.
        columns: Names of the columns.
        rows: The records; read once.
    """

    place: Path
    columns: Sequence[str]
    rows: Iterable[Row]

    def column(self, candidates: Sequence[str]) -> str:
        """Return the first candidate that the table has.

        Raises:
            InputError: It has none of them.
        """
        for candidate in candidates:
            if candidate in self.columns:
                return candidate
        raise InputError(
            f"no column {' or '.join(map(repr, candidates))}; there are {', '.join(map(repr, self.columns))}.",
            remedy="Rename the column, or read the tables one by one with columns mapped.",
            path=self.place,
            field=candidates[0],
        )


def holds_judgements(columns: Sequence[str]) -> bool:
    """Say whether a table with these columns has a query's and a document's id in each row."""
    return not set(JUDGED_QUERIES).isdisjoint(columns) and not set(JUDGED_DOCUMENTS).isdisjoint(columns)


def set_from_subsets(name: str, corpus: Table, queries: Table, qrels: Mapping[str, Table]) -> RetrievalSet:
    """Build a set from a table of documents, one of queries, and judgements by split.

    Documents need an id and `text`, and may have `title` and `topic`; queries an id and `text`; judgements
    `query-id`, `corpus-id` and, unless all are 1, `score`. A row that comes twice with the same content (hubs
    repeat the corpus for every split) counts once. Scores below 0, which TREC-COVID has, count as 0.

    Args:
        name: Name of the set.
        corpus: The documents.
        queries: The queries.
        qrels: Split -> judgements.

    Raises:
        InputError: A column is missing, a table is empty, or a row is bad; with its place.
    """
    documents = tuple(_unique(corpus, DOCUMENT_IDS, _document))
    questions = tuple(_unique(queries, QUERY_IDS, _query))
    for table, found in ((corpus, documents), (queries, questions)):
        if not found:
            raise InputError("this table is empty.", remedy="Give at least one row.", path=table.place)
    known = _Known({query.id for query in questions}, {document.id for document in documents}, {})
    judged = {split: _judgements(table, split, known) for split, table in qrels.items()}
    return RetrievalSet(name, documents, questions, judged)


def _document(row: Row, identifier: str) -> Document:
    if row.values.get("text") is None:
        raise row.fault(f"document {identifier!r} has no text.", 'Add it; it may be "" where a title stands.', "text")
    document = Document(identifier, row.optional_text("text"), row.optional_text("title"), row.optional_text("topic"))
    if not document.content.strip():
        raise row.fault(f"document {identifier!r} has neither title nor text.", "Fill one, or drop it.", "text")
    return document


def _query(row: Row, identifier: str) -> Query:
    return Query(identifier, row.text("text"))


def _unique(table: Table, ids: Sequence[str], make: Callable[[Row, str], _Record]) -> Iterator[_Record]:
    id_column = table.column(ids)
    table.column(("text",))
    seen: dict[str, tuple[_Record, Row]] = {}
    for row in table.rows:
        record = make(row, row.identifier(id_column))
        first, first_row = seen.setdefault(record.id, (record, row))
        if first is record:
            yield record
        elif first != record:
            raise row.fault(
                f"the id {record.id!r} was already given, with another content, at {first_row.path}:{first_row.line}.",
                "Make ids unique.",
                id_column,
            )


class _Known(NamedTuple):
    queries: set[str]
    documents: set[str]
    splits: dict[str, str]  # query id -> split


def _judgements(table: Table, split: str, known: _Known) -> dict[str, dict[str, int]]:
    query_column, document_column = table.column(JUDGED_QUERIES), table.column(JUDGED_DOCUMENTS)
    scored = "score" in table.columns
    qrels: dict[str, dict[str, int]] = {}
    for row in table.rows:
        query, document = row.identifier(query_column), row.identifier(document_column)
        for identifier, ids, column, where in (
            (query, known.queries, query_column, "queries"),
            (document, known.documents, document_column, "the corpus"),
        ):
            if identifier not in ids:
                raise row.fault(f"{identifier!r} is not in {where}.", "Add it or drop this row.", column)
        if known.splits.setdefault(query, split) != split:
            raise row.fault(
                f"query {query!r} is judged in split {split!r} and in {known.splits[query]!r}.",
                "A question belongs to one split; drop it from one of the two.",
                query_column,
            )
        score = max(0, _score(row)) if scored else 1
        if qrels.setdefault(query, {}).setdefault(document, score) != score:
            raise row.fault(f"score {score} contradicts an earlier row on this pair.", "Keep one of them.", "score")
    if not any(score > 0 for judged in qrels.values() for score in judged.values()):
        raise InputError(
            f"split {split!r} has no relevant document (no score above 0).",
            remedy="Add judgements of 1 or more, or leave the split out.",
            path=table.place,
            field="score",
        )
    return qrels


def _score(row: Row) -> int:
    value = row.values.get("score")
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise row.fault(f"the score {shown(value)} is not a whole number.", "Write 0, 1, 2, ...", "score")
