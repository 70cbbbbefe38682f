"""The texts behind the rows of a dataset directory, so that a prediction leads back to a document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jasper_rag import dataset_layout as layout
from jasper_rag.data.dataset_config import read_config, read_json
from jasper_rag.errors import InputError
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.readers.rows import Row
from jasper_rag.text.records import Document, Query

_REMEDY = "Build the dataset again; directories of the original project keep no texts."


@dataclass(frozen=True)
class DatasetTexts:
    """Texts by row.

    Args:
        documents: Row i belongs to row i of `source_embs`.
        questions: Row i belongs to row i of `question_embs`.
        keywords: Row i belongs to row i of `keyword_embs`.
        clusters: Names; row i belongs to row i of `centroid_embs`.
        terms: Telling terms of each cluster, best first; none where the file says none.
    """

    documents: tuple[Document, ...]
    questions: tuple[Query, ...]
    keywords: tuple[str, ...]
    clusters: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]


def read_texts(directory: str | Path) -> DatasetTexts:
    """Read the texts of a dataset directory.

    Raises:
        InputError: A file is missing or damaged, or has not as many entries as config.json says.
    """
    root = Path(directory)
    config, _ = read_config(root / layout.CONFIG_FILE)
    for name in layout.TEXT_FILES:
        if not (root / name).is_file():
            raise InputError("is missing", remedy=_REMEDY, path=root / name)
    clusters = _objects(read_json(root / layout.CLUSTERS_FILE), root / layout.CLUSTERS_FILE)
    texts = DatasetTexts(
        documents=tuple(_document(row) for row in json_rows(root / layout.DOCUMENTS_FILE)),
        questions=tuple(_question(row) for row in json_rows(root / layout.QUESTIONS_FILE)),
        keywords=_strings(read_json(root / layout.KEYWORDS_FILE), root / layout.KEYWORDS_FILE),
        clusters=_strings([entry.get("name") for entry in clusters], root / layout.CLUSTERS_FILE),
        terms=tuple(_strings(entry.get("terms", []), root / layout.CLUSTERS_FILE) for entry in clusters),
    )
    _require(len(texts.documents), config.n_sources, root / layout.DOCUMENTS_FILE)
    _require(len(texts.questions), config.n_questions, root / layout.QUESTIONS_FILE)
    _require(len(texts.keywords), config.n_keywords, root / layout.KEYWORDS_FILE)
    _require(len(texts.clusters), config.n_clusters, root / layout.CLUSTERS_FILE)
    return texts


def _document(row: Row) -> Document:
    return Document(row.identifier("_id"), row.text("text"), row.optional_text("title"), row.optional_text("topic"))


def _question(row: Row) -> Query:
    return Query(row.identifier("_id"), row.text("text"))


def _strings(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise InputError("a list of strings is expected", remedy=_REMEDY, path=path)
    return tuple(value)


def _objects(value: Any, path: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError("a list of objects is expected", remedy=_REMEDY, path=path)
    return value


def _require(found: int, expected: int | None, path: Path) -> None:
    if expected is not None and found != expected:
        raise InputError(f"has {found} entries, {expected} are expected", remedy=_REMEDY, path=path)
