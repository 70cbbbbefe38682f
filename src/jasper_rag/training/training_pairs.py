"""The train split as tensors: pairs, the sources they point to, and what must not serve as a negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedSet
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.text.leakage import text_key


@dataclass(frozen=True, slots=True)
class TrainingPairs:
    """Question-source pairs of the train split.

    Args:
        questions: float32 [Q, D].
        sources: float32 [M, D], the passages of the distinct train sources; the negatives of every question.
        pairs: int64 [P, 2], (question row, source row).
        known_positives: int64 [Q, W], source rows of every known positive of a question, by id and by text; -1 pads.
        relevance: float32 [P], the pair's relevance divided by the highest of its question.
    """

    questions: Tensor
    sources: Tensor
    pairs: Tensor
    known_positives: Tensor
    relevance: Tensor

    def __len__(self) -> int:
        return len(self.pairs)

    def to(self, device: torch.device | str) -> TrainingPairs:
        """The same on another device."""
        return TrainingPairs(*(getattr(self, field.name).to(device) for field in fields(self)))


def training_pairs(embedded: EmbeddedSet, split: str = "train") -> TrainingPairs:
    """Pairs of one split of `embedded`.

    The sources, and with them the negatives, are a function of this split alone: documents that only dev or test
    questions ask for take no part. Documents of equal text are one source, so no copy of a positive is a negative.
    A source of several passages is aimed at through the passage nearest to the question; its others are no negatives.

    Raises:
        ValueError: If the split has no pair.
    """
    queries = embedded.splits[split]
    question_rows, source_documents, grades = _relevant_pairs(embedded, split)
    documents, source_rows = np.unique(source_documents, return_inverse=True)
    highest = np.zeros(len(queries))
    np.maximum.at(highest, question_rows, grades)
    sources = embedded.vectors.select(documents)
    # All passages of a known positive are known positives.
    passage_rows, pair_of_passage = sources.rows_of(source_rows)
    positives = known_positives(_text_groups(queries.texts), question_rows[pair_of_passage], passage_rows)
    targets = _nearest_passages(sources, queries.vectors, question_rows, source_rows)
    return TrainingPairs(
        questions=torch.from_numpy(np.ascontiguousarray(queries.vectors)),
        sources=torch.from_numpy(sources.vectors),
        pairs=torch.from_numpy(np.stack([question_rows, targets], axis=1).astype(np.int64)),
        known_positives=torch.from_numpy(positives),
        relevance=torch.from_numpy((grades / highest[question_rows]).astype(np.float32)),
    )


def pair_documents(embedded: EmbeddedSet, split: str = "train") -> np.ndarray:
    """The document row of each pair of `training_pairs`, in their order: int64 [P].

    Raises:
        ValueError: If the split has no pair.
    """
    return _relevant_pairs(embedded, split)[1]


def _relevant_pairs(embedded: EmbeddedSet, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Question row, document row and grade of each pair; one row stands for all documents of equal text."""
    queries = embedded.splits[split]
    judgements = queries.judgements
    question_of_entry = np.repeat(np.arange(len(queries)), np.diff(judgements.indptr))
    relevant = (judgements.grades > 0) & (judgements.documents >= 0)
    if not relevant.any():
        raise ValueError(f"the {split} split holds no question with a relevant document in the corpus.")
    question_rows = question_of_entry[relevant]
    grades = judgements.grades[relevant].astype(np.float64)
    source_documents = embedded.text_group[judgements.documents[relevant]]
    # Two documents of equal text may both be judged for one question: one pair, with the higher relevance.
    order = np.lexsort((-grades, source_documents, question_rows))
    keys = np.stack([question_rows[order], source_documents[order]])
    first = np.concatenate([[True], (np.diff(keys, axis=1) != 0).any(axis=0)])
    return keys[0, first], keys[1, first], grades[order][first]


def _nearest_passages(
    sources: DocumentVectors, questions: Vectors, question_rows: np.ndarray, source_rows: np.ndarray
) -> np.ndarray:
    if sources.passages is None:
        return source_rows
    targets = [
        sources.best_passages(questions[question], np.array([source]))[0]
        for question, source in zip(question_rows, source_rows, strict=True)
    ]
    return np.array(targets, dtype=np.int64)


def known_positives(question_group: np.ndarray, question_rows: np.ndarray, source_rows: np.ndarray) -> np.ndarray:
    """Source rows by question, int64 [Q, W], -1 pads: questions of one group share theirs.

    Args:
        question_group: int64 [Q], a row that stands for all questions of equal text.
        question_rows: int64 [P], the question of each pair.
        source_rows: int64 [P], its source.
    """
    answered = np.unique(np.stack([question_group[question_rows], source_rows]), axis=1)
    shared: np.ndarray = _padded_rows(answered[0], answered[1], len(question_group))[question_group]
    return shared


def _text_groups(texts: Sequence[str]) -> np.ndarray:
    first: dict[str, int] = {}
    return np.array([first.setdefault(text_key(text, str(row)), row) for row, text in enumerate(texts)])


def _padded_rows(question_rows: np.ndarray, source_rows: np.ndarray, questions: int) -> np.ndarray:
    """Source rows by question, int64 [Q, W], padded with -1; `question_rows` ascends."""
    counts = np.bincount(question_rows, minlength=questions)
    place = np.arange(len(question_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded = np.full((questions, int(counts.max())), -1, dtype=np.int64)
    padded[question_rows, place] = source_rows
    return padded
