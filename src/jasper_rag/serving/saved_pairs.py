"""Known questions kept with a model: their texts, vectors, and the documents that answer them.

They are shown beside a new question, so they hold what people asked: `explain.known_pairs: false` leaves them out.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from jasper_rag.atomic_files import write_text
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.explain.explain_config import ExplainConfig
from jasper_rag.metrics.topk import FloatMatrix, RowMatrix, top_k
from jasper_rag.retrieval.vector_files import mapped_tensors
from jasper_rag.text.readers.jsonl import json_rows
from jasper_rag.text.records import Query

MOST_KEPT = 20_000
"""Questions; 15 MB at 384 dimensions."""

PAIRS, PAIR_VECTORS = "known_pairs.jsonl", "known_pairs.safetensors"
_MADE = "pseudo:"
"""Begins the ids of questions that nobody asked."""


@dataclass(frozen=True, slots=True, eq=False)
class SavedPairs:
    """P questions and the ids of the documents that answer each.

    Args:
        questions: P questions.
        sources: P tuples of document ids, most relevant first; empty where none is left in the corpus.
        vectors: float16 [P, D], unit rows up to rounding; may be a memory map.

    Raises:
        ValueError: The parts are not of one length.
    """

    questions: tuple[Query, ...]
    sources: tuple[tuple[str, ...], ...]
    vectors: NDArray[np.float16]

    def __post_init__(self) -> None:
        counts = (len(self.questions), len(self.sources), len(self.vectors))
        if len(set(counts)) != 1 or self.vectors.ndim != 2 or not counts[0]:
            raise ValueError(f"known pairs need as many questions, sources and vectors, at least 1, got {counts}.")

    def __len__(self) -> int:
        """P."""
        return len(self.questions)

    def nearest(self, questions: Vectors, k: int) -> tuple[RowMatrix, FloatMatrix]:
        """The k known questions most like each of Q: rows int64 [Q, min(k, P)], best first, and cosines float32.

        Args:
            questions: [Q, D], unit rows.
            k: At least 1.
        """
        cosines, rows = top_k(questions, self.vectors, k)
        return rows, np.clip(cosines, -1.0, 1.0)

    def without(self, documents: Collection[str]) -> SavedPairs:
        """The same questions, without these documents (ids) as sources."""
        gone = frozenset(documents)
        return replace(self, sources=tuple(tuple(each for each in row if each not in gone) for row in self.sources))


def known_pairs_of(embedded: EmbeddedSet, config: ExplainConfig, seed: int) -> SavedPairs | None:
    """What a model keeps of its train questions: all, or an even sample of `MOST_KEPT`; those made of sentences never.

    Args:
        embedded: With the split "train".
        config: Whether any is kept.
        seed: Draws the sample.

    Returns:
        None where none is kept, or no real question has a relevant document.
    """
    if not config.known_pairs:
        return None
    train = embedded.splits["train"]
    real = np.array([row for row, name in enumerate(train.ids) if not name.startswith(_MADE)], dtype=np.int64)
    rows = real[np.sort(np.random.default_rng(seed).permutation(len(real))[:MOST_KEPT])]
    if not len(rows):
        return None
    return SavedPairs(
        tuple(Query(train.ids[row], train.texts[row] if train.texts else "") for row in rows),
        tuple(_sources(embedded, row) for row in rows.tolist()),
        train.vectors[rows].astype(np.float16),
    )


def _sources(embedded: EmbeddedSet, row: int) -> tuple[str, ...]:
    judgements = embedded.splits["train"].judgements
    entries = slice(judgements.indptr[row], judgements.indptr[row + 1])
    documents, grades = judgements.documents[entries], judgements.grades[entries]
    order = np.argsort(-grades, kind="stable")
    order = order[(grades[order] > 0) & (documents[order] >= 0)]
    return tuple(embedded.documents[document].id for document in documents[order])


def write_pairs(pairs: SavedPairs | None, folder: Path) -> int:
    """Write `PAIRS` and `PAIR_VECTORS` into a folder that exists; how many pairs, 0 for None, which writes nothing."""
    if pairs is None:
        return 0
    rows = (
        {"_id": question.id, "text": question.text, "sources": list(sources)}
        for question, sources in zip(pairs.questions, pairs.sources, strict=True)
    )
    write_text(folder / PAIRS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    save_file({"questions": np.ascontiguousarray(pairs.vectors)}, folder / PAIR_VECTORS)
    return len(pairs)


def read_pairs(folder: Path, count: int) -> SavedPairs | None:
    """Read what `write_pairs` wrote into a folder whose checksums are right; None for a count of 0.

    Raises:
        InputError: A file is missing or not what it should be, or has another number of pairs.
    """
    if not count:
        return None
    rows = [row.values for row in json_rows(folder / PAIRS)]
    vectors = mapped_tensors(folder / PAIR_VECTORS)[1]["questions"]
    if not count == len(rows) == len(vectors):
        problem = f"{count} known pairs, but {len(rows)} texts and {len(vectors)} vectors of them."
        raise InputError(problem, path=folder, remedy="The folder is damaged: run `jasper fit` again.")
    questions = tuple(Query(str(row["_id"]), str(row["text"])) for row in rows)
    return SavedPairs(questions, tuple(tuple(row["sources"]) for row in rows), vectors)
