"""The BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv (Thakur et al., 2021, arXiv:2104.08663)."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.readers.rows import Row, UniqueIds, split_name
from jasper_rag.text.readers.utf8 import utf8_lines
from jasper_rag.text.records import Document, Query, RetrievalSet

HEADER = ("query-id", "corpus-id", "score")
_SPLIT_ORDER = ("train", "dev", "test")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_LAYOUT = "A BEIR directory holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv."


def read_beir(directory: str | Path, name: str | None = None) -> RetrievalSet:
    """Read a BEIR directory.

    Documents are `{"_id", "title", "text"}` (`title` and our own `topic` may be absent), queries `{"_id", "text"}`,
    judgements tab-separated under the header `query-id, corpus-id, score`. `val`, `valid` and `validation` are
    "dev". Without a qrels directory the set has no judgements. Judgements of 0 (seen, not relevant) are kept.

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
    qrels: dict[str, dict[str, dict[str, int]]] = {}
    if (directory / "qrels").exists():
        qrels = _read_qrels(directory / "qrels", {q.id for q in queries}, {d.id for d in documents})
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


def _read_qrels(
    directory: Path, queries: Container[str], documents: Container[str]
) -> dict[str, dict[str, dict[str, int]]]:
    paths = _split_files(directory)
    qrels: dict[str, dict[str, dict[str, int]]] = {}
    split_of: dict[str, str] = {}
    for split, path in paths.items():
        qrels[split] = {}
        lines: dict[tuple[str, str], int] = {}
        for row in _judgement_rows(path):
            query, document, score = _judgement(row, queries, documents)
            if split_of.setdefault(query, split) != split:
                raise row.fault(
                    f"query {query!r} is judged in split {split!r} and in {split_of[query]!r}.",
                    "A question belongs to one split; drop it from one of the two files.",
                    HEADER[0],
                )
            first = lines.setdefault((query, document), row.line)
            if qrels[split].setdefault(query, {}).setdefault(document, score) != score:
                raise row.fault(
                    f"score {score} contradicts line {first}, which gives this pair another.",
                    f"Keep line {first} or line {row.line}.",
                    HEADER[2],
                )
        if not any(score > 0 for judged in qrels[split].values() for score in judged.values()):
            raise InputError(
                "this split has no relevant document (no score above 0).",
                remedy="Add judgements of 1 or more, or remove the file.",
                path=path,
                field=HEADER[2],
            )
    return qrels


def _split_files(directory: Path) -> dict[str, Path]:
    """Return split -> file, in the order train, dev, test, others."""
    if not directory.is_dir():
        raise InputError("a directory is expected here.", remedy=_LAYOUT, path=directory)
    found: dict[str, Path] = {}
    for path in sorted(directory.glob("*.tsv")):
        if path.name.startswith("."):
            continue
        split = split_name(path.stem)
        if split in found:
            raise InputError(
                f"{found[split].name} and {path.name} are both the split {split!r}.",
                remedy="Keep one of them.",
                path=directory,
            )
        found[split] = path
    if not found:
        raise InputError(
            "no .tsv file here.",
            remedy="Add <split>.tsv files, or remove the directory if there are no judgements.",
            path=directory,
        )
    order = [*(split for split in _SPLIT_ORDER if split in found), *(s for s in found if s not in _SPLIT_ORDER)]
    return {split: found[split] for split in order}


def _judgement_rows(path: Path) -> Iterator[Row]:
    header_seen = False
    for number, line in utf8_lines(path):
        if not line.strip():
            continue
        fields = tuple(field.strip() for field in line.rstrip("\r\n").split("\t"))
        row = Row(path, number, dict(zip(HEADER, fields, strict=False)))
        if len(fields) != len(HEADER):
            raise row.fault(
                f"{len(fields)} tab-separated columns, expected 3.",
                "Write query-id, corpus-id and score, separated by tabs (not by blanks).",
            )
        if header_seen:
            yield row
        elif tuple(field.lower().replace("_", "-") for field in fields) != HEADER:
            raise row.fault(
                f"the header is missing; the first line is {' | '.join(fields)!r}.",
                "Begin the file with the line query-id<TAB>corpus-id<TAB>score.",
            )
        header_seen = True
    if not header_seen:
        raise InputError(
            "this file is empty.", remedy="Write the header and one judgement per line, or remove it.", path=path
        )


def _judgement(row: Row, queries: Container[str], documents: Container[str]) -> tuple[str, str, int]:
    query, document = row.identifier(HEADER[0]), row.identifier(HEADER[1])
    if query not in queries:
        raise row.fault(f"query {query!r} is not in queries.jsonl.", "Add the query or drop this line.", HEADER[0])
    if document not in documents:
        raise row.fault(f"document {document!r} is not in corpus.jsonl.", "Add it or drop this line.", HEADER[1])
    score = str(row.values[HEADER[2]])
    if not _WHOLE_NUMBER.fullmatch(score):
        raise row.fault(f"the score {score!r} is not a whole number.", "Write 0, 1, 2, ...", HEADER[2])
    if int(score) < 0:
        raise row.fault(
            f"the score {score} is negative.", "Write 0 for a document that was seen and is not relevant.", HEADER[2]
        )
    return query, document, int(score)
