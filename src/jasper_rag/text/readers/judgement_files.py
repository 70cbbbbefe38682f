"""Relevance judgements in files: BEIR's tab-separated columns under a header, or TREC's four columns without one."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from jasper_rag.errors import InputError
from jasper_rag.text.readers.rows import Row, split_name
from jasper_rag.text.readers.utf8 import utf8_lines

HEADER = ("query-id", "corpus-id", "score")
"""BEIR's header; underscores may stand for hyphens."""

UNSPLIT = "all"
"""The split of a file that is not named after one."""

SplitQrels = dict[str, dict[str, dict[str, int]]]
"""Split -> query id -> document id -> relevance."""

_SPLIT_ORDER = ("train", "dev", "test")
_SUFFIXES = (".tsv", ".txt")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_NUMBER = re.compile(r"[+-]?[0-9.]+")
_TREC = 4
_LAYOUTS = "Begin the file with the line query-id<TAB>corpus-id<TAB>score, or write TREC's columns: query 0 document 1."


class KnownIds(NamedTuple):
    """The ids that judgements may name.

    Args:
        ids: The ids.
        place: Where they come from, for messages: "queries.jsonl".
    """

    ids: Container[str]
    place: str


def read_judgements(path: str | Path, queries: KnownIds | None = None, documents: KnownIds | None = None) -> SplitQrels:
    """Read the judgements of a directory or of one file.

    A directory holds one .tsv file per split (.txt files count where there is no .tsv); `val`, `valid` and
    `validation` are "dev". A single file named after train, dev or test is that split, any other is "all", which
    `jasper_rag.text.splitting.ensure_splits` divides. A file is in BEIR's layout, tab-separated under the header
    `query-id, corpus-id, score`, or in TREC's: query, an unused column, document and relevance, without a header.

    A score below 0, which some TREC collections give to bad documents, counts as 0: seen and not relevant. Those
    of 0 are kept.

    Args:
        path: The directory or file.
        queries: The queries there are; None if any id will do.
        documents: The documents there are; None if any id will do.

    Raises:
        InputError: Anything wrong, with file, line and field: a bad row, an unknown id, a query judged in two splits,
            two scores for one pair, a split without a relevant document.
    """
    path = Path(path)
    if os.path.isdir(path):
        return read_judgement_directory(path, queries, documents)
    split = split_name(path.stem)
    return _read({split if split in _SPLIT_ORDER else UNSPLIT: path}, queries, documents)


def read_judgement_directory(
    directory: Path, queries: KnownIds | None = None, documents: KnownIds | None = None
) -> SplitQrels:
    """Read a directory of judgement files like `read_judgements`; splits come in the order train, dev, test, others.

    Raises:
        InputError: As `read_judgements`; or this is no directory, it has no such file, or two of one split.
    """
    return _read(_split_files(directory), queries, documents)


def _read(paths: Mapping[str, Path], queries: KnownIds | None, documents: KnownIds | None) -> SplitQrels:
    qrels: SplitQrels = {}
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
    if not os.path.isdir(directory):
        raise InputError(
            "a directory is expected here.", remedy="It holds one .tsv file of judgements per split.", path=directory
        )
    found: dict[str, Path] = {}
    for path in _judgement_paths(directory):
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
            "no .tsv file here, and no .txt file.",
            remedy="Add <split>.tsv files, or remove the directory if there are no judgements.",
            path=directory,
        )
    order = [*(split for split in _SPLIT_ORDER if split in found), *(s for s in found if s not in _SPLIT_ORDER)]
    return {split: found[split] for split in order}


def _judgement_paths(directory: Path) -> list[Path]:
    """Return the directory's .tsv files, or else its .txt files, hidden ones left out."""
    found = (sorted(directory.glob(f"*{suffix}")) for suffix in _SUFFIXES)
    visible = ([path for path in paths if not path.name.startswith(".")] for paths in found)
    return next(filter(None, visible), [])


def _judgement_rows(path: Path) -> Iterator[Row]:
    """Yield rows with the fields of `HEADER`, in whichever of the two layouts the first line is."""
    read = None
    for number, line in utf8_lines(path):
        if not line.strip():
            continue
        if read is not None:
            yield read(path, number, line)
        elif _is_header(line):
            read = _beir_row
        elif _is_trec(line):
            read = _trec_row
            yield read(path, number, line)
        else:
            row = _beir_row(path, number, line)
            shown = " | ".join(map(str, row.values.values()))
            raise row.fault(f"the header is missing; the first line is {shown!r}.", _LAYOUTS)
    if read is None:
        raise InputError(
            "this file is empty.", remedy="Write the header and one judgement per line, or remove it.", path=path
        )


def _is_header(line: str) -> bool:
    return tuple(field.lower().replace("_", "-") for field in _tabbed(line)) == HEADER


def _is_trec(line: str) -> bool:
    fields = _trec_fields(line)
    # Three fields between tabs are BEIR's, whatever blanks the ids have.
    return len(fields) == _TREC and len(_tabbed(line)) != len(HEADER) and bool(_NUMBER.fullmatch(fields[3]))


def _tabbed(line: str) -> tuple[str, ...]:
    return tuple(field.strip() for field in line.rstrip("\r\n").split("\t"))


def _trec_fields(line: str) -> tuple[str, ...]:
    fields = _tabbed(line)
    return fields if len(fields) == _TREC else tuple(line.split())


def _beir_row(path: Path, number: int, line: str) -> Row:
    fields = _tabbed(line)
    row = Row(path, number, dict(zip(HEADER, fields, strict=False)))
    if len(fields) != len(HEADER):
        raise row.fault(
            f"{len(fields)} tab-separated columns, expected 3.",
            "Write query-id, corpus-id and score, separated by tabs (not by blanks).",
        )
    return row


def _trec_row(path: Path, number: int, line: str) -> Row:
    fields = _trec_fields(line)
    if len(fields) != _TREC:
        raise InputError(
            f"{len(fields)} columns, expected 4 as in the lines above.",
            remedy="Write query, 0, document and relevance; ids have no blanks, or tabs separate the columns.",
            path=path,
            line=number,
        )
    return Row(path, number, {HEADER[0]: fields[0], HEADER[1]: fields[2], HEADER[2]: fields[3]})


def _judgement(row: Row, queries: KnownIds | None, documents: KnownIds | None) -> tuple[str, str, int]:
    query, document = row.identifier(HEADER[0]), row.identifier(HEADER[1])
    if queries is not None and query not in queries.ids:
        raise row.fault(f"query {query!r} is not in {queries.place}.", "Add the query or drop this line.", HEADER[0])
    if documents is not None and document not in documents.ids:
        raise row.fault(f"document {document!r} is not in {documents.place}.", "Add it or drop this line.", HEADER[1])
    score = str(row.values[HEADER[2]])
    if not _WHOLE_NUMBER.fullmatch(score):
        raise row.fault(f"the score {score!r} is not a whole number.", "Write 0, 1, 2, ...", HEADER[2])
    return query, document, max(0, int(score))
