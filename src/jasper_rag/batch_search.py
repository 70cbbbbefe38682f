"""Many questions against one model: read, search or explain, and write batch by batch; are they still familiar?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from jasper_rag.atomic_files import replacing
from jasper_rag.evaluation.question_monitor import QuestionMonitor
from jasper_rag.jasper import Jasper, Ranker
from jasper_rag.progress import progress_bar
from jasper_rag.retrieval.trec import run_writer
from jasper_rag.serving.model_explanation import explain_texts
from jasper_rag.serving.steering_choice import Steering, require_steerable
from jasper_rag.text.readers.question_file import read_questions
from jasper_rag.text.records import Query

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
    jasper: Jasper,
    questions: Path,
    output: Path,
    k: int,
    ranker: Ranker = "hybrid",
    *,
    steer: Steering | None = None,
    strength: float = 1.0,
) -> BatchSearch:
    """Search every question of a file; the TREC run appears at `output` when all of them are done.

    Args:
        jasper: The model.
        questions: See `read_questions`; read as it is searched, so its size does not matter.
        output: Run file to create or replace.
        k: Most documents per question.
        ranker: As `Jasper.search`.
        steer: As `Jasper.search`, for all questions.
        strength: As `Jasper.search`.

    Raises:
        InputError: From `read_questions`, or the encoder, or a place that cannot be steered to.
    """
    require_steerable(jasper.model, steer, strength)
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
            found = jasper.search_vectors(vectors, k, ranker, texts=texts, steer=steer, strength=strength)
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


def explain_file(
    jasper: Jasper,
    questions: Path,
    output: Path,
    k: int,
    ranker: Ranker = "hybrid",
    *,
    steer: Steering | None = None,
    strength: float = 1.0,
) -> int:
    """Explain every question of a file, one JSON object per line; the file appears when all of them are done.

    Arguments and errors as `search_file`; `output` is a file of JSON lines: the question's id, and what
    `SearchExplanation.to_dict` gives.

    Returns:
        How many were explained.
    """
    require_steerable(jasper.model, steer, strength)
    count = 0
    with (
        replacing(output) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as stream,
        progress_bar(None, "explaining", "questions") as bar,
    ):
        for batch in _batches(read_questions(questions)):
            texts = [query.text for query in batch]
            found = explain_texts(jasper.model, texts, lambda: jasper.encoder, k, ranker, steer, strength)
            for query, explanation in zip(batch, found, strict=True):
                line = {"id": query.id, **explanation.to_dict()}
                stream.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += len(batch)
            bar.update(len(batch))
    return count


def _batches(queries: Iterable[Query]) -> Iterator[list[Query]]:
    iterator = iter(queries)
    while batch := list(islice(iterator, BATCH)):
        yield batch
