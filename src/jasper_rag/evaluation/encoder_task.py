"""What an encoder is evaluated on: documents, queries and judgements, read from whatever holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jasper_rag.errors import InputError
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.pair_files import EvaluationSet, read_evaluation_set
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.records import RetrievalSet


@dataclass(frozen=True, slots=True)
class EncoderTask:
    """N documents, Q queries, and which documents answer each.

    Args:
        name: Shown in tables.
        document_ids: N ids.
        documents: N texts.
        query_ids: Q ids.
        queries: Q texts.
        judgements: Of the queries, in their order.
    """

    name: str
    document_ids: tuple[str, ...]
    documents: tuple[str, ...]
    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    judgements: Judgements


def read_task(path: str | Path, split: str = "test") -> EncoderTask:
    """Read a `test_eval.json`, or one split of a set that `jasper fit` reads, such as a BEIR directory.

    Raises:
        InputError: Nothing there, malformed, or the split has no question with a relevant document.
    """
    path = Path(path)
    if path.suffix.lower() == ".json" or not path.exists():
        if not path.exists():
            remedy = "Give a test_eval.json (scripts/prepare_data.py makes one) or a BEIR directory."
            raise InputError("there is no test data here.", path=path, remedy=remedy)
        return task_of_evaluation_set(read_evaluation_set(path), path.stem)
    return task_of_retrieval_set(read_retrieval_set(path), split)


def task_of_evaluation_set(evaluation: EvaluationSet, name: str = "test_eval") -> EncoderTask:
    """An evaluation set as a task; ids are row numbers."""
    rows = [np.array(entry, dtype=np.int64) for entry in evaluation.relevance]
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    documents = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    return EncoderTask(
        name,
        tuple(map(str, range(len(evaluation.corpus)))),
        evaluation.corpus,
        tuple(map(str, range(len(evaluation.queries)))),
        evaluation.queries,
        Judgements(indptr, documents, np.ones(len(documents), dtype=np.int64)),
    )


def task_of_retrieval_set(retrieval_set: RetrievalSet, split: str = "test") -> EncoderTask:
    """One split of a set as a task, over all its documents; queries without a relevant document are left out.

    Raises:
        InputError: There is no such split, or it has no query with a relevant document.
    """
    qrels = retrieval_set.qrels.get(split)
    if qrels is None:
        found = ", ".join(sorted(retrieval_set.qrels))
        remedy = f"Choose one of these: {found}." if found else "Add judged queries, such as qrels/test.tsv."
        raise InputError(f"{retrieval_set.name} has no split {split!r}.", field="split", remedy=remedy)
    answered = {query for query, grades in qrels.items() if any(grade > 0 for grade in grades.values())}
    queries = [query for query in retrieval_set.queries if query.id in answered]
    if not queries:
        problem = f"no query of {retrieval_set.name}, split {split!r}, has a relevant document."
        raise InputError(problem, field="split", remedy="Add judgements above 0.")
    rows = {document.id: row for row, document in enumerate(retrieval_set.documents)}
    query_ids = tuple(query.id for query in queries)
    return EncoderTask(
        f"{retrieval_set.name}, {split} split",
        tuple(rows),
        tuple(document.content for document in retrieval_set.documents),
        query_ids,
        tuple(query.text for query in queries),
        Judgements.from_qrels(qrels, query_ids, rows),
    )
