"""CSV files of scored question-source pairs, with the column names that the original project's merger accepts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.text.keyword_cells import row_keywords
from jasper_rag.text.readers.rows import Row, shown, split_name
from jasper_rag.text.readers.tables import table_rows
from jasper_rag.text.records import Document, Qrels, Query, RetrievalSet

logger = logging.getLogger(__name__)

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "question_text", "query"),
    "source": ("source_text", "source", "context", "passage"),
    "answer": ("answer", "answer_text", "response"),
    "keywords": (
        "extract_suggestions",
        "topic_relevance_prob_topic_scores",
        "keywords",
        "keyword",
        "topics",
        "tags",
    ),
    "relevance_score": ("relevance_score", "score", "relevance", "label"),
}
"""Field and the column names tried for it, in this order. Only question and source must be there."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """One question with one source.

    Args:
        question: Its text.
        source: Text of the source.
        relevance: In [0, 1]; 0 means that the source does not answer.
        keywords: Given for this pair.
        answer: A written answer; "" for none.
        split: "train", "dev", "test", or "all" where the files are not divided.
    """

    question: str
    source: str
    relevance: float
    keywords: tuple[str, ...] = ()
    answer: str = ""
    split: str = "all"


def read_scored_pairs(
    paths: str | Path | Sequence[str | Path] | Mapping[str, Sequence[str | Path]],
    columns: Mapping[str, str] | None = None,
) -> tuple[ScoredPair, ...]:
    """Read and merge files; the pairs come in the order of their first row.

    Rows with the same question and source are one pair: the highest score, the longest answer and all keywords count.
    A missing score is 1. Scores beyond 0 and 1 are cut there, and their number is logged.

    Args:
        paths: A CSV or TSV file, several of them, or split -> files.
        columns: Field of `COLUMNS` -> the files' column, where it has another name.

    Raises:
        InputError: Anything wrong with a file, with line and column; or a question in two splits.
    """
    files_given = [paths] if isinstance(paths, str | Path) else paths
    by_split = files_given if isinstance(files_given, Mapping) else {"all": files_given}
    merged: dict[tuple[str, str], ScoredPair] = {}
    split_of: dict[str, str] = {}
    cut = 0
    for split, files in by_split.items():
        for path in map(Path, files):
            header, rows = table_rows(path)
            chosen = _columns(header, path, columns or {})
            for row in rows:
                pair, was_cut = _pair(row, chosen, split_name(split))
                cut += was_cut
                _require_one_split(pair, split_of, row, chosen)
                before = merged.setdefault((pair.question, pair.source), pair)
                if before is not pair:
                    merged[pair.question, pair.source] = _merge(before, pair)
    if not merged:
        raise InputError("no file was given.", remedy="Name at least one CSV file.", field="csv_paths")
    if cut:
        logger.warning("%d scores outside 0 and 1 were cut.", cut)
    return tuple(merged.values())


def pairs_as_set(pairs: Sequence[ScoredPair], name: str) -> RetrievalSet:
    """The pairs as documents s0, s1, ..., queries q0, q1, ... and judgements: 1 where the relevance is above 0.

    Documents and queries are numbered in the order in which they first appear.
    """
    sources = {text: f"s{number}" for number, text in enumerate(dict.fromkeys(pair.source for pair in pairs))}
    questions = {text: f"q{number}" for number, text in enumerate(dict.fromkeys(pair.question for pair in pairs))}
    qrels: dict[str, dict[str, dict[str, int]]] = {}
    for pair in pairs:
        judged = qrels.setdefault(pair.split, {}).setdefault(questions[pair.question], {})
        judged[sources[pair.source]] = int(pair.relevance > 0)
    judgements: Mapping[str, Qrels] = qrels
    return RetrievalSet(
        name,
        tuple(Document(identifier, text) for text, identifier in sources.items()),
        tuple(Query(identifier, text) for text, identifier in questions.items()),
        judgements,
    )


def _columns(header: Sequence[str], path: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Field -> the file's column, for the fields the file has."""
    for field, column in given.items():
        if field not in COLUMNS:
            raise InputError(f"unknown field {field!r}.", remedy=f"The fields are: {', '.join(COLUMNS)}.", field=field)
        if column not in header:
            remedy = f"The file has {', '.join(map(repr, header))}."
            raise InputError(f"there is no column {column!r}.", remedy=remedy, path=path, field=field)
    chosen = dict(given)
    for field, names in COLUMNS.items():
        present = [name for name in names if name in header and name not in chosen.values()]
        if field not in chosen and present:
            chosen[field] = present[0]
    for field in ("question", "source"):
        if field not in chosen:
            raise InputError(
                f"no column holds the {field}; the file has {', '.join(map(repr, header))}.",
                remedy=f"Name it {' or '.join(COLUMNS[field])}.",
                path=path,
                field=field,
            )
    return chosen


def _pair(row: Row, chosen: Mapping[str, str], split: str) -> tuple[ScoredPair, bool]:
    score = _score(row, chosen["relevance_score"]) if "relevance_score" in chosen else 1.0
    pair = ScoredPair(
        question=row.text(chosen["question"]).strip(),
        source=row.text(chosen["source"]).strip(),
        relevance=min(max(score, 0.0), 1.0),
        keywords=row_keywords(row, chosen["keywords"]) if "keywords" in chosen else (),
        answer=row.optional_text(chosen["answer"]).strip() if "answer" in chosen else "",
        split=split,
    )
    return pair, pair.relevance != score


def _score(row: Row, field: str) -> float:
    text = row.optional_text(field).strip()
    try:
        score = float(text or "nan")
    except ValueError:
        score = math.inf
    if math.isinf(score):
        raise row.fault(f"the score {shown(text)} is no number.", "Write a number from 0 to 1, or nothing.", field)
    return 1.0 if math.isnan(score) else score


def _require_one_split(pair: ScoredPair, split_of: dict[str, str], row: Row, chosen: Mapping[str, str]) -> None:
    first = split_of.setdefault(pair.question, pair.split)
    if first != pair.split:
        raise row.fault(
            f"this question is in split {pair.split!r} here and in {first!r} before.",
            "A question belongs to one split: drop one of its rows.",
            chosen["question"],
        )


def _merge(one: ScoredPair, other: ScoredPair) -> ScoredPair:
    keywords: dict[str, str] = {}
    for keyword in (*one.keywords, *other.keywords):
        keywords.setdefault(keyword.casefold(), keyword)
    return replace(
        one,
        relevance=max(one.relevance, other.relevance),
        keywords=tuple(keywords.values()),
        answer=max(one.answer, other.answer, key=len),
    )
