from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from jasper_rag.embedding.embedded_set import answered, embed_documents, embed_set, text_groups
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Role, Vectors
from jasper_rag.embedding.vectors import unit_rows
from jasper_rag.text.chunking_config import ChunkingConfig
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
        embedded.vectors.vectors, encoder.encode(["Greek. alpha", "beta", "BETA!", "delta"], "document")
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


def test_blank_texts_are_sources_of_their_own() -> None:
    blank = [Document("x", ""), Document("y", " "), Document("z", "", title="a"), Document("w", "A")]
    assert text_groups(blank).tolist() == [0, 1, 2, 2]


def test_questions_without_an_answer_are_left_out() -> None:
    assert answered({"a": {"x": 0}, "b": {"x": 1}, "c": {}, "d": {"x": -1, "y": 2}}) == ["b", "d"]


def test_queries_behind_queries(small: RetrievalSet, tmp_path: Path) -> None:
    splits = embed_set(small, RoleEncoder(), EmbeddingStore(tmp_path)).splits
    both = splits["train"].followed_by(splits["dev"])
    assert (both.ids, len(both)) == (("q4", "q0", "q5", "q1"), 4)
    assert both.texts == ("question 4", "question 0", "question 5", "question 1")
    np.testing.assert_array_equal(both.vectors[:2], splits["train"].vectors)
    np.testing.assert_array_equal(both.vectors[2:], splits["dev"].vectors)
    assert both.judgements.documents.tolist() == [1, 3, 0, -2, 3, -2]
    assert [both.judgements.positives(row).tolist() for row in range(4)] == [[1], [0], [], [3]]


LONG = (
    Document("a", "one two three  four five", title="Numbers"),
    Document("b", "alone"),
    Document("c", "", title="a title alone"),
    Document("d", "six\nseven eight"),
)
PASSAGES = [
    *("Numbers. one two", "Numbers. two three", "Numbers. three  four", "Numbers. four five"),
    *("alone", LONG[2].content, "six\nseven", "seven eight"),
]


def test_passages_bring_their_title_and_know_their_place(tmp_path: Path) -> None:
    encoder, cut = RoleEncoder(), ChunkingConfig(how="tokens", size=2, overlap=1)
    vectors, report = embed_documents(LONG, encoder, EmbeddingStore(tmp_path), cut)
    np.testing.assert_array_equal(vectors.vectors, encoder.encode(PASSAGES, "document"))
    assert vectors.passages is not None
    assert vectors.passages.counts().tolist() == [4, 1, 1, 2]
    owners = np.repeat(np.arange(4), vectors.passages.counts())
    for owner, (start, end), text in zip(owners, vectors.passages.spans, PASSAGES, strict=True):
        assert LONG[owner].text[start:end].strip() == text.removeprefix("Numbers. ").removeprefix(LONG[2].content)
    assert (report.encoded, report.reused) == (8, 0)


def test_the_encoder_counts_its_own_tokens(tmp_path: Path) -> None:
    class Counting(RoleEncoder):
        def count_tokens(self, text: str) -> int:
            return len(text.replace(" ", ""))

    document, store = Document("a", "abcd ef gh"), EmbeddingStore(tmp_path)
    vectors, _ = embed_documents([document], Counting(), store, ChunkingConfig(how="tokens", size=4, overlap=0))
    assert vectors.passages is not None
    assert vectors.passages.spans.tolist() == [[0, 5], [5, 10]]


def test_no_cutting_is_a_vector_per_document(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    for chunking in (None, ChunkingConfig()):
        vectors, _ = embed_documents(LONG, RoleEncoder(), store, chunking)
        assert (len(vectors), vectors.passages) == (4, None)
    assert len(embed_documents([], RoleEncoder(), store, ChunkingConfig(how="tokens"))[0]) == 0


def test_an_overlap_as_large_as_a_passage_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap 32 must be below size 32"):
        ChunkingConfig(how="tokens", size=32)
