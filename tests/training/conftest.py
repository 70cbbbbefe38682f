"""A corpus in which the way from question to source can be learnt: the questions are the documents, turned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.linalg import expm

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.models.guard import Vectors, unit
from jasper_rag.text.records import Document

DOCUMENTS, DIM = 200, 16
SPLITS = {"train": range(120), "dev": range(120, 200)}


def queries_of(vectors: Vectors, rows: Sequence[int]) -> EmbeddedQueries:
    """Question r is answered by document r alone."""
    ids = tuple(f"q{row}" for row in rows)
    judgements = Judgements(np.arange(len(rows) + 1), np.array(rows), np.ones(len(rows), dtype=np.int64))
    return EmbeddedQueries(ids, ids, vectors[list(rows)], judgements)


@pytest.fixture(scope="package")
def turned() -> EmbeddedSet:
    """200 documents in 16 dimensions; question r is document r turned by one rotation for all, with noise."""
    generator = np.random.default_rng(0)
    documents = unit(generator.standard_normal((DOCUMENTS, DIM)).astype(np.float32))
    plane = generator.standard_normal((DIM, DIM))
    noise = generator.standard_normal((DOCUMENTS, DIM))
    questions = unit((documents @ expm(0.2 * (plane - plane.T)) + 0.1 * noise).astype(np.float32))
    return EmbeddedSet(
        name="turned",
        documents=tuple(Document(f"d{row}", f"text {row}") for row in range(DOCUMENTS)),
        vectors=DocumentVectors(documents),
        splits={split: queries_of(questions, rows) for split, rows in SPLITS.items()},
        text_group=np.arange(DOCUMENTS),
        reports={},
    )
