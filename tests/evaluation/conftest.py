"""A corpus with words and vectors, some queries on it, and judgements with grades."""

from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.models.guard import unit
from jasper_rag.text.records import Document

DOCUMENTS, QUERIES, DIM = 60, 24, 8


@pytest.fixture(scope="package")
def worded() -> EmbeddedSet:
    """60 documents whose words and vectors both tell something of the 24 questions of "dev" and of "test"."""
    generator = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a in "bdfg" for b in "aeo" for c in "lnr"]
    topics = [generator.choice(words, size=6) for _ in range(DOCUMENTS)]
    # Ids whose order as strings is not that of the rows.
    documents = tuple(
        Document(f"d{number}", " ".join(topics[row])) for row, number in enumerate(generator.permutation(DOCUMENTS))
    )
    vectors = unit(generator.standard_normal((DOCUMENTS, DIM)).astype(np.float32))

    def queries(split: str) -> EmbeddedQueries:
        answers = generator.integers(DOCUMENTS, size=QUERIES)
        judged = {
            f"{split}{row}": {
                documents[int(answer)].id: 2,
                documents[int(answer + 1) % DOCUMENTS].id: int(row % 3 == 0),
            }
            for row, answer in enumerate(answers)
        }
        texts = tuple(" ".join(generator.choice(topics[answer], size=2)) for answer in answers)
        questions = unit((vectors[answers] + 0.4 * generator.standard_normal((QUERIES, DIM))).astype(np.float32))
        rows = {document.id: row for row, document in enumerate(documents)}
        return EmbeddedQueries(tuple(judged), texts, questions, Judgements.from_qrels(judged, list(judged), rows))

    splits = {"dev": queries("dev"), "test": queries("test")}
    return EmbeddedSet("worded", documents, DocumentVectors(vectors), splits, np.arange(DOCUMENTS), {})
