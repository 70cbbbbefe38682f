from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from jasper_rag.embedding.embedded_set import embed_set, text_groups
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Role, Vectors
from jasper_rag.embedding.vectors import unit_rows
from jasper_rag.text.records import Document, Query, RetrievalSet

DOCUMENTS = (
    Document("a", "alpha", title="Greek"),
    Document("b", "beta"),
    Document("c", "BETA!"),
    Document("d", "delta"),
)
QUERIES = tuple(Query(f"q{number}", f"question {number}") for number in range(6))
QRELS = {
    "train": {"q4": {"b": 2, "d": 0}, "q0": {"a": 1}, "q2": {"a": 0, "c": -1}},
    "dev": {"q5": {"gone": 1}, "q1": {"d": 1, "gone": 1}},
}


class RoleEncoder:
    """A vector per role and text, drawn from both."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        seeds = [crc32(f"{role} {text}".encode()) for text in texts]
        return unit_rows([np.random.default_rng(seed).standard_normal(5) for seed in seeds], texts, "test")


@pytest.fixture
def small() -> RetrievalSet:
    return RetrievalSet("small", DOCUMENTS, QUERIES, QRELS)


def test_rows_belong_together(small: RetrievalSet, tmp_path: Path) -> None:
    encoder = RoleEncoder()
    embedded = embed_set(small, encoder, EmbeddingStore(tmp_path))
    assert (embedded.name, embedded.documents) == ("small", DOCUMENTS)
    np.testing.assert_array_equal(
        embedded.vectors, encoder.encode(["Greek. alpha", "beta", "BETA!", "delta"], "document")
    )
    # In the order of the judgements; q2 has no relevant document, q3 is not judged.
    assert {split: queries.ids for split, queries in embedded.splits.items()} == {
        "train": ("q4", "q0"),
        "dev": ("q5", "q1"),
    }
    text = {query.id: query.text for query in QUERIES}
    for queries in embedded.splits.values():
        assert len(queries) == len(queries.ids) == 2
        assert queries.texts == tuple(text[i] for i in queries.ids)
        np.testing.assert_array_equal(queries.vectors, encoder.encode(queries.texts, "query"))


def test_judgements_point_at_documents(small: RetrievalSet, tmp_path: Path) -> None:
    splits = embed_set(small, RoleEncoder(), EmbeddingStore(tmp_path)).splits
    train, dev = splits["train"].judgements, splits["dev"].judgements
    assert (train.indptr.tolist(), train.documents.tolist(), train.grades.tolist()) == ([0, 2, 3], [1, 3, 0], [2, 0, 1])
    assert (dev.indptr.tolist(), dev.documents.tolist(), dev.grades.tolist()) == ([0, 1, 3], [-2, 3, -2], [1, 1, 1])


def test_reports_tell_what_was_reused(small: RetrievalSet, tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    first = embed_set(small, RoleEncoder(), store).reports
    again = embed_set(small, RoleEncoder(), store).reports
    assert [(report.encoded, report.reused) for report in first.values()] == [(4, 0), (4, 0)]
    assert [(report.encoded, report.reused) for report in again.values()] == [(0, 4), (0, 4)]
    assert list(first) == ["document", "query"]


def test_equal_texts_are_grouped_by_their_first() -> None:
    assert text_groups(DOCUMENTS).tolist() == [0, 1, 1, 3]
    # The title counts: it is part of what is encoded.
    assert text_groups([Document("x", "b", title="a"), Document("y", "b"), Document("z", "A. b")]).tolist() == [0, 1, 0]
    assert text_groups([]).tolist() == []
