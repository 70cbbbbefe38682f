"""MS MARCO questions with their passages, row by row.

Nguyen et al. 2016, arXiv:1611.09268. A row holds a question and some ten passages that a search engine found for it;
those that an annotator answered from are selected. A selected passage is the positive, the others are the negatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jasper_rag.errors import InputError
from jasper_rag.text.near_duplicates import near_duplicates
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.readers.parquet import SUFFIX, opened_parquet, parquet_rows
from jasper_rag.text.readers.rows import Row

REPOSITORY = "microsoft/ms_marco"
CONFIGS = ("v1.1", "v2.1")
INSTALL = 'pip install "jasper-rag[huggingface]"'

_COLUMNS = ("query", "passages")


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """One question with passages.

    Args:
        query: Its text.
        positives: Selected passages, at least one.
        negatives: The others, near-duplicates of a positive left out.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


def hub_rows(config: str, split: str, start: int = 0) -> Iterator[Row]:
    """Stream the rows of a split from the Hugging Face hub, beginning with row `start`; no code of it is run.

    Raises:
        InputError: `datasets` is not installed, or the set cannot be had.
    """
    place = f"hf:{REPOSITORY}:{config}"
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "streaming MS MARCO needs the datasets library.",
            remedy=f"Install it: {INSTALL}, or give a downloaded file: --source FILE.",
            path=place,
        ) from error
    try:
        streamed = datasets.load_dataset(REPOSITORY, config, split=split, streaming=True).skip(start)
        for number, values in enumerate(streamed, start=start + 1):
            yield Row(Path(f"{place}/{split}"), number, values)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise InputError(
            f"cannot be read ({type(error).__name__}): {reason}",
            remedy="Check the connection and run the same again: it goes on where it stopped. Or give a downloaded "
            "file: --source FILE.",
            path=place,
        ) from error


def file_rows(path: str | Path, start: int = 0) -> Iterator[Row]:
    """The rows of a Parquet or JSONL file of the same schema, beginning with row `start`.

    Raises:
        InputError: The file is missing, of another kind, or lacks a column.
    """
    path = Path(path)
    if path.suffix.lower() == SUFFIX:
        with opened_parquet(path) as file:
            found = list(file.schema_arrow.names)
        for column in _COLUMNS:
            if column not in found:
                raise InputError("the column is missing.", remedy=_SCHEMA, path=path, field=column)
        rows: Iterable[Row] = parquet_rows(path, _COLUMNS)
    elif path.suffix.lower() in (".jsonl", ".json"):
        rows = json_rows(path)
    else:
        raise InputError("neither .parquet nor .jsonl.", remedy="Give a file of either kind.", path=path)
    return itertools.islice(rows, start, None)


def judged_question(row: Row) -> JudgedQuestion | None:
    """What a row says; None where no passage of it is selected, or the question is blank.

    Raises:
        InputError: The row is not of the schema.
    """
    query = row.optional_text("query").strip()
    chosen, texts = _passages(row)
    positives = [text for text, selected in zip(texts, chosen, strict=True) if selected and text]
    if not query or not positives:
        return None
    others = dict.fromkeys(text for text, selected in zip(texts, chosen, strict=True) if not selected and text)
    negatives = [text for text in others if not any(near_duplicates(text, positive) for positive in positives)]
    return JudgedQuestion(query, tuple(dict.fromkeys(positives)), tuple(negatives))


_SCHEMA = 'Expected "query" and "passages": {"is_selected": [0, 1, ...], "passage_text": ["...", ...]}.'


def _passages(row: Row) -> tuple[list[Any], list[str]]:
    given = row.values.get("passages")
    if isinstance(given, list):  # a list of records instead of a record of lists
        entries = [entry if isinstance(entry, Mapping) else {} for entry in given]
        given = {name: [entry.get(name) for entry in entries] for name in ("is_selected", "passage_text")}
    if not isinstance(given, Mapping):
        raise row.fault("the passages are missing.", _SCHEMA, "passages")
    chosen, texts = given.get("is_selected"), given.get("passage_text")
    if not isinstance(chosen, list) or not isinstance(texts, list) or len(chosen) != len(texts):
        raise row.fault("is_selected and passage_text are not lists of one length.", _SCHEMA, "passages")
    if not all(isinstance(text, str) for text in texts):
        raise row.fault("a passage_text is no string.", _SCHEMA, "passages")
    return chosen, [text.encode("utf-8", "replace").decode().strip() for text in texts]
