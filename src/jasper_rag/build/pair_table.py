"""Sources, questions and their pairs as rows, divided into splits; strings and numbers only, nothing is embedded.

Rows are in the order of ids, whatever the order of the input: the same set gives the same dataset, byte for byte.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput, PairKey
from jasper_rag.embedding.embedded_set import text_groups
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Query, RetrievalSet
from jasper_rag.text.splitting import ensure_splits, split_by_document, split_by_query

_LOG = logging.getLogger(__name__)

IntArray = NDArray[np.int64]

SPLIT_NAMES: Mapping[str, str] = {"train": "train", "dev": "val", "test": "test"}
"""Split of a retrieval set -> its name in a dataset, in the dataset's order."""


@dataclass(frozen=True, slots=True)
class PairTable:
    """The rows of a dataset.

    Args:
        name: Of the retrieval set.
        documents: N sources, by id.
        questions: Q questions with at least one source that answers them, by id.
        pairs: int64 [P, 2], (question row, source row), split after split and in order within each.
        relevance: float32 [P], in (0, 1].
        splits: "train", "val" and perhaps "test" -> rows of pairs.
        text_group: int64 [N], row of the first source of equal text.
    """

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Query, ...]
    pairs: IntArray
    relevance: Vectors
    splits: Mapping[str, IntArray]
    text_group: IntArray

    @property
    def keys(self) -> list[PairKey]:
        """The P pairs by ids."""
        return [(self.questions[question].id, self.documents[source].id) for question, source in self.pairs]

    @property
    def source_texts(self) -> list[str]:
        """What is embedded of the N sources: title and text."""
        return [document.content for document in self.documents]

    @property
    def question_texts(self) -> list[str]:
        """The Q texts."""
        return [question.text for question in self.questions]


def pair_table(given: BuildInput, config: BuildConfig) -> PairTable:
    """Divide the questions into splits and number everything.

    Args:
        given: Documents, questions, judgements.
        config: How to split.

    Raises:
        InputError: Splits that cannot be had or used, or no pair to train or validate on.
    """
    divided = _with_splits(given.retrieval_set, config)
    documents = tuple(sorted(divided.documents, key=lambda document: document.id))
    keys = _pairs(divided, {document.id for document in documents})
    asked = {query_id for split in keys.values() for query_id, _ in split}
    questions = tuple(sorted((query for query in divided.queries if query.id in asked), key=lambda query: query.id))
    question_rows = {query.id: row for row, query in enumerate(questions)}
    source_rows = {document.id: row for row, document in enumerate(documents)}
    every = [key for split in keys.values() for key in split]
    ends = np.cumsum([len(split) for split in keys.values()])
    return PairTable(
        name=divided.name,
        documents=documents,
        questions=questions,
        pairs=np.array([(question_rows[query], source_rows[source]) for query, source in every], dtype=np.int64),
        relevance=_relevance(given, every),
        splits={name: np.arange(end - len(keys[name]), end) for name, end in zip(keys, ends.tolist(), strict=True)},
        text_group=text_groups(documents),
    )


def _with_splits(retrieval_set: RetrievalSet, config: BuildConfig) -> RetrievalSet:
    if config.split == "source":
        return split_by_document(retrieval_set, config.random_seed, config.split_ratios)
    if config.split == "question":
        return split_by_query(retrieval_set, config.random_seed, config.split_ratios)
    splits = ensure_splits(retrieval_set, config.random_seed)
    if "train" not in splits.qrels:
        raise InputError(
            f"{splits.name} has no questions to train on (splits: {', '.join(sorted(splits.qrels))}).",
            remedy="Add qrels/train.tsv, or let the questions be split: --split source.",
            field="split",
        )
    return splits


def _pairs(divided: RetrievalSet, known: set[str]) -> dict[str, list[PairKey]]:
    """Dataset split -> its positive pairs by ids, in their order; a pair counts in the first split that has it."""
    pairs: dict[str, list[PairKey]] = {}
    taken: set[PairKey] = set()
    repeated = 0
    for split, name in SPLIT_NAMES.items():
        if split not in divided.qrels:
            continue
        judged = divided.qrels[split].items()
        found = {(query, source) for query, grades in judged for source, grade in grades.items() if grade > 0}
        found = {key for key in found if key[1] in known}
        repeated += len(found & taken)
        pairs[name] = sorted(found - taken)
        taken |= found
    if repeated:
        _LOG.warning("%s: %d pairs stand in several splits; each is kept in the first one.", divided.name, repeated)
    for name in ("train", "val"):
        if not pairs.get(name):
            problem = f"{divided.name} has no pair for the {name} split."
            raise InputError(problem, remedy="Let the questions be split: --split source.", field="split")
    return pairs


def _relevance(given: BuildInput, keys: list[PairKey]) -> Vectors:
    grades: dict[PairKey, int] = {}
    for qrels in given.retrieval_set.qrels.values():
        for query_id, judged in qrels.items():
            for document_id, grade in judged.items():
                grades[query_id, document_id] = max(grade, grades.get((query_id, document_id), grade))
    highest = max(grades.values(), default=1)
    return np.array([given.relevance.get(key, grades[key] / highest) for key in keys], dtype=np.float32)
