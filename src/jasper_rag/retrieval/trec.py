"""TREC run files: `query_id Q0 document_id rank score tag`, one retrieved document per line.

The format separates columns by white space, so an id must not contain any. White space in an id is written
percent-encoded ("my notes.txt" -> "my%20notes.txt"), and so is the "%" of an id that would read as such an escape
("%20" -> "%2520"); every other id stands in the file as it is. Reading undoes this.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from jasper_rag.atomic_files import replacing
from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import RowMatrix

Run = dict[str, dict[str, float]]
"""Query id -> document id -> score."""

_TO_ESCAPE = re.compile(r"\s|%(?=[0-9A-Fa-f]{2})")


def write_run(
    path: str | Path,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    rows: RowMatrix,
    scores: NDArray[np.floating[Any]],
    tag: str,
) -> None:
    """Write a run atomically; ranks count from 1 in the order given, scores carry float32 precision.

    Evaluation programs order by score and break ties by document id, whatever the rank column says.

    Args:
        path: File to create or replace.
        query_ids: Q ids.
        document_ids: N ids, one per corpus row.
        rows: int64 [Q, K] corpus rows, best first; negative rows are left out.
        scores: [Q, K], higher is better.
        tag: Name of the system; no white space.

    Raises:
        InputError: If the tag or an id is empty, or the tag has white space.
        ValueError: If shapes differ, a row lies outside the corpus, a score is not finite, or a query lists a document
            twice.
    """
    with run_writer(path, document_ids, tag) as add:
        add(query_ids, rows, scores)


@contextmanager
def run_writer(
    path: str | Path, document_ids: Sequence[str], tag: str
) -> Iterator[Callable[[Sequence[str], RowMatrix, NDArray[np.floating[Any]]], None]]:
    """Write a run query block by query block: call what is yielded with ids, rows and scores as in `write_run`.

    The file appears when the context is left without an error; arguments and errors as `write_run`.
    """
    if not tag or tag.split() != [tag]:
        raise InputError(f"run tag {tag!r}", remedy="Give a name without white space.", field="tag")
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:

        def add(query_ids: Sequence[str], rows: RowMatrix, scores: NDArray[np.floating[Any]]) -> None:
            if rows.shape != scores.shape or rows.ndim != 2 or len(rows) != len(query_ids):
                shapes = f"rows {list(rows.shape)}, scores {list(scores.shape)}"
                raise ValueError(f"{len(query_ids)} queries, {shapes} must agree.")
            if rows.max(initial=-1) >= len(document_ids):
                raise ValueError(f"row {rows.max()} lies outside the corpus of {len(document_ids)} documents.")
            if not np.isfinite(scores[rows >= 0]).all():
                raise ValueError("a score of a retrieved document is not finite.")
            for query_id, query_rows, query_scores in zip(query_ids, rows.tolist(), scores.tolist(), strict=True):
                kept = [(row, score) for row, score in zip(query_rows, query_scores, strict=True) if row >= 0]
                if len({row for row, _ in kept}) < len(kept):
                    raise ValueError(f"query {query_id!r} lists a document twice.")
                query = _escaped(query_id)
                for rank, (row, score) in enumerate(kept, start=1):
                    stream.write(f"{query} Q0 {_escaped(document_ids[row])} {rank} {score:.9g} {tag}\n")

        yield add


def read_run(path: str | Path, *, unescape: bool = True) -> Run:
    """Read a run file: query id -> document id -> score, in file order; blank lines are skipped.

    Args:
        path: The file.
        unescape: Undo the percent-encoding of `write_run`. False leaves ids as they stand, for files of other
            programs whose ids are URLs.

    Raises:
        InputError: If the file is missing or not UTF-8, or a line is not a run line, has a score that is not a finite
            number, or repeats a document of its query.
    """
    path = Path(path)
    decode = unquote if unescape else str
    run: Run = {}
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                query_id, document_id, score = _parsed(line, path, number)
                retrieved = run.setdefault(decode(query_id), {})
                if decode(document_id) in retrieved:
                    raise InputError(
                        f"document {decode(document_id)!r} stands twice under query {decode(query_id)!r}",
                        remedy="List a document once per query.",
                        path=path,
                        line=number,
                    )
                retrieved[decode(document_id)] = score
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", remedy="Give a TREC run file.", path=path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", remedy="Save the file as UTF-8.", path=path) from error
    return run


def _parsed(line: str, path: Path, number: int) -> tuple[str, str, float]:
    columns = line.split()
    if len(columns) != 6:
        raise InputError(
            f"{len(columns)} columns",
            remedy="A run line has 6: query_id Q0 document_id rank score tag.",
            path=path,
            line=number,
        )
    try:
        score = float(columns[4])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(
            f"score {columns[4]!r}", remedy="The fifth column must be a finite number.", path=path, line=number
        )
    return columns[0], columns[2], score


def _escaped(identifier: str) -> str:
    if not identifier:
        raise InputError("empty id", remedy="A run file cannot hold a query or document without an id.")
    return _TO_ESCAPE.sub(lambda match: quote(match[0]), identifier)
