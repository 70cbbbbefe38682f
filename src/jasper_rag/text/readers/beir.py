"""The BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv (Thakur et al., 2021, arXiv:2104.08663)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.readers.judgement_files import KnownIds, SplitQrels, read_judgement_directory
from jasper_rag.text.readers.rows import UniqueIds
from jasper_rag.text.records import Document, Query, RetrievalSet

_LAYOUT = "A BEIR directory holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv."


def read_beir(directory: str | Path, name: str | None = None) -> RetrievalSet:
    """Read a BEIR directory.

    Documents are `{"_id", "title", "text"}` (`title` and our own `topic` may be absent), queries `{"_id", "text"}`,
    judgements tab-separated under the header `query-id, corpus-id, score`; for their files see
    `jasper_rag.text.readers.judgement_files.read_judgements`. Without a qrels directory the set has no judgements.

    Args:
        directory: The directory.
        name: Name of the set; the directory's name by default.

    Raises:
        InputError: Anything wrong, with file, line and field.
    """
    directory = Path(directory)
    for needed in ("corpus.jsonl", "queries.jsonl"):
        if not (directory / needed).exists():
            raise InputError("this file does not exist.", remedy=_LAYOUT, path=directory / needed)
    documents = tuple(_documents(directory / "corpus.jsonl"))
    queries = tuple(_queries(directory / "queries.jsonl"))
    qrels: SplitQrels = {}
    if (directory / "qrels").exists():
        known_queries = KnownIds({query.id for query in queries}, "queries.jsonl")
        known_documents = KnownIds({document.id for document in documents}, "corpus.jsonl")
        qrels = read_judgement_directory(directory / "qrels", known_queries, known_documents)
    return RetrievalSet(name or directory.resolve().name, documents, queries, qrels)


def _documents(path: Path) -> Iterator[Document]:
    seen = UniqueIds()
    for row in json_rows(path):
        identifier = seen.add(row, "_id")
        if row.values.get("text") is None:
            raise row.fault(
                f"document {identifier!r} has no text.", 'Add it; it may be "" where a title stands.', "text"
            )
        document = Document(
            identifier, row.optional_text("text"), row.optional_text("title"), row.optional_text("topic")
        )
        if not document.content.strip():
            raise row.fault(f"document {identifier!r} has neither title nor text.", "Fill one, or drop it.", "text")
        yield document


def _queries(path: Path) -> Iterator[Query]:
    seen = UniqueIds()
    for row in json_rows(path):
        yield Query(seen.add(row, "_id"), row.text("text"))
