"""Many questions against one model: read, search and write batch by batch, and see whether they are still familiar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from jasper_rag.evaluation.question_monitor import QuestionMonitor
from jasper_rag.jasper import Jasper, Ranker
from jasper_rag.progress import progress_bar
from jasper_rag.retrieval.trec import run_writer
from jasper_rag.text.readers.question_file import read_questions
from jasper_rag.text.records import Query
from jasper_rag.topic_choice import require_steerable

BATCH = 64
"""Questions in memory at a time."""


@dataclass(frozen=True, slots=True)
class BatchSearch:
    """What a batch search did.

    Args:
        questions: How many were searched.
        monitor: Of their familiarity; None where the model has no gate.
    """

    questions: int
    monitor: QuestionMonitor | None


def search_file(
    jasper: Jasper, questions: Path, output: Path, k: int, ranker: Ranker = "hybrid", *, steer: str | None = None
) -> BatchSearch:
    """Search every question of a file; the TREC run appears at `output` when all of them are done.

    Args:
        jasper: The model.
        questions: See `read_questions`; read as it is searched, so its size does not matter.
        output: Run file to create or replace.
        k: Most documents per question.
        ranker: As `Jasper.search`.
        steer: As `Jasper.search`, for all questions.

    Raises:
        InputError: From `read_questions`, or the encoder, or a topic that is not there.
    """
    if steer is not None:
        require_steerable(jasper.model, steer)
    documents = jasper.model.documents
    rows = {document.id: row for row, document in enumerate(documents)}
    gate = jasper.model.guard.gate
    monitor = None if gate is None else QuestionMonitor(jasper.model.config["guard"]["gate_low"])
    count = 0
    with (
        run_writer(output, [document.id for document in documents], f"jasper-{ranker}") as add,
        progress_bar(None, "searching", "questions") as bar,
    ):
        for batch in _batches(read_questions(questions)):
            texts = [query.text for query in batch]
            vectors = jasper.encoder.encode(texts, "query")
            found = jasper.search_vectors(vectors, k, ranker, texts=texts, steer=steer)
            add(
                [query.id for query in batch],
                np.array([[rows[hit.document.id] for hit in hits] for hits in found], dtype=np.int64),
                np.array([[hit.score for hit in hits] for hits in found], dtype=np.float32),
            )
            if gate is not None and monitor is not None:
                monitor.add(gate.openness(vectors))
            count += len(batch)
            bar.update(len(batch))
    return BatchSearch(count, monitor)


def _batches(queries: Iterable[Query]) -> Iterator[list[Query]]:
    iterator = iter(queries)
    while batch := list(islice(iterator, BATCH)):
        yield batch
