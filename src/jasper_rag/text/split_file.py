"""A split on disk: which question belongs to which split, so that every run compares on the same questions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jasper_rag.atomic_files import write_json
from jasper_rag.errors import InputError
from jasper_rag.text.readers.rows import unique_keys
from jasper_rag.text.readers.utf8 import utf8_lines
from jasper_rag.text.records import Qrels, RetrievalSet

FORMAT = "jasper-splits"
VERSION = 1


_AGAIN = "Write the splits of this set again."


class SplitMismatch(InputError):
    """A sound split file, but of another set."""


def write_splits(retrieval_set: RetrievalSet, path: str | Path, seed: int | None = None) -> None:
    """Write which question belongs to which split: JSON, all of it or nothing.

    Args:
        retrieval_set: A set with splits.
        path: The file; replaced if it exists.
        seed: The seed the split came from, for the record.
    """
    splits = {split: list(qrels) for split, qrels in retrieval_set.qrels.items()}
    record = {"format": FORMAT, "version": VERSION, "set": retrieval_set.name, "seed": seed, "splits": splits}
    write_json(path, record)


def read_splits(retrieval_set: RetrievalSet, path: str | Path) -> RetrievalSet:
    """Return the set under the splits of a file that `write_splits` wrote.

    Args:
        retrieval_set: The set; its own splits are given up, its judgements kept.
        path: The file.

    Raises:
        SplitMismatch: It names a question that the set does not have or has no judgement for, or misses one.
        InputError: The file is missing or not such a file, or has a question in two splits.
    """
    path = Path(path)
    judgements = all_judgements(retrieval_set)
    seen: dict[str, str] = {}
    splits = _stored(path)
    for split, queries in splits.items():
        for query in queries:
            if query not in judgements:
                problem = f"question {query!r} has no judgement in {retrieval_set.name}."
                raise SplitMismatch(problem, remedy=_AGAIN, path=path, field=split)
            if query in seen:
                raise _misfit(f"question {query!r} is also in split {seen[query]!r}.", path, split)
            seen[query] = split
    left = [query for query in judgements if query not in seen]
    if left:
        problem = f"{len(left)} judged questions are in no split, the first is {left[0]!r}."
        raise SplitMismatch(problem, remedy=_AGAIN, path=path, field="splits")
    return with_splits(retrieval_set, judgements, splits)


def all_judgements(retrieval_set: RetrievalSet) -> dict[str, dict[str, int]]:
    """Return the judgements of all splits together, questions in the set's order.

    Of two judgements of one pair in two splits the higher counts.
    """
    merged: dict[str, dict[str, int]] = {}
    for qrels in retrieval_set.qrels.values():
        for query, judged in qrels.items():
            known = merged.setdefault(query, {})
            for document, score in judged.items():
                known[document] = max(score, known.get(document, score))
    return {query.id: merged[query.id] for query in retrieval_set.queries if query.id in merged}


def with_splits(retrieval_set: RetrievalSet, judgements: Qrels, splits: Mapping[str, Iterable[str]]) -> RetrievalSet:
    """Return the set with its judgements under these splits, questions in the order of `judgements`."""
    members = {split: frozenset(queries) for split, queries in splits.items()}
    qrels = {
        split: {query: judged for query, judged in judgements.items() if query in queries}
        for split, queries in members.items()
    }
    return RetrievalSet(retrieval_set.name, retrieval_set.documents, retrieval_set.queries, qrels)


def _stored(path: Path) -> dict[str, list[str]]:
    text = "".join(line for _, line in utf8_lines(path))
    try:
        record: Any = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise _misfit(f"not valid JSON: {error}.", path) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("version") != VERSION:
        raise _misfit(f"not a split file of format {FORMAT!r}, version {VERSION}.", path, "format")
    splits = record.get("splits")
    if not isinstance(splits, dict) or not splits:
        raise _misfit("an object of split name -> question ids is expected.", path, "splits")
    for split, queries in splits.items():
        if not isinstance(queries, list) or not queries or not all(isinstance(query, str) for query in queries):
            raise _misfit("a list of at least one question id is expected.", path, split)
    return splits


def _misfit(problem: str, path: Path, field: str | None = None) -> InputError:
    return InputError(problem, remedy=_AGAIN, path=path, field=field)
