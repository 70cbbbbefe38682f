"""What every reader returns: documents, queries and relevance judgements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Qrels = Mapping[str, Mapping[str, int]]
"""Relevance judgements: query id -> document id -> relevance (an integer; > 0 is relevant), as in TREC."""


@dataclass(frozen=True, slots=True)
class Document:
    """One retrievable text.

    Args:
        id: Unique within its corpus.
        text: The body.
        title: Optional heading; encoders and BM25 see `content`.
        topic: Optional known topic (a module, a category); used for routing reports, never as input.
    """

    id: str
    text: str
    title: str = ""
    topic: str = ""

    @property
    def content(self) -> str:
        """Title and text as one passage: "title. text" (no full stop where the title brings its own punctuation)."""
        title = self.title.strip()
        if not title:
            return self.text
        return f"{title}{'' if title.endswith(('.', '?', '!', ':')) else '.'} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Query:
    """One question."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Documents, queries and their judgements by split.

    Args:
        name: Shown in tables and file names.
        documents: The whole corpus, in file order; ids unique.
        queries: Every query of every split; ids unique.
        qrels: Split name ("train", "dev", "test") -> judgements. A split may be missing.
    """

    name: str
    documents: tuple[Document, ...]
    queries: tuple[Query, ...]
    qrels: Mapping[str, Qrels] = field(default_factory=dict)
