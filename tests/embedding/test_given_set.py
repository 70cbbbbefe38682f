from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import pytest

from jasper_rag.embedding import given_set as module
from jasper_rag.embedding.given_set import given_set, vector_groups
from jasper_rag.embedding.vector_sources import GivenVectors
from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Qrels, Query, RetrievalSet


def vectors(prefix: str, count: int, width: int = 4, seed: int = 0) -> GivenVectors:
    values = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return GivenVectors(
        tuple(f"{prefix}{row}" for row in range(count)),
        values / np.linalg.norm(values, axis=1, keepdims=True),
        source=f"{prefix}.txt",
    )


DOCUMENTS, QUERIES = vectors("d", 12), vectors("q", 10, seed=1)
QRELS: Mapping[str, Qrels] = {"all": {f"q{row}": {f"d{row}": 1} for row in range(10)}}


def test_vectors_without_texts() -> None:
    found = given_set(DOCUMENTS, QUERIES, QRELS, "mine")
    assert found.name == found.retrieval_set.name == "mine"
    assert found.retrieval_set.documents == tuple(Document(f"d{row}", "") for row in range(12))
    assert found.retrieval_set.queries == tuple(Query(f"q{row}", "") for row in range(10))
    assert found.retrieval_set.qrels == QRELS
    assert found.document_vectors is DOCUMENTS.vectors
    np.testing.assert_array_equal(found.vectors_of(["q3", "q0"]), QUERIES.vectors[[3, 0]])


def test_texts_are_put_in_the_order_of_the_vectors(caplog: pytest.LogCaptureFixture) -> None:
    documents = tuple(Document(f"d{row}", f"text {row}", "title") for row in reversed(range(13)))
    texts = RetrievalSet("texts", documents, tuple(Query(f"q{row}", f"query {row}") for row in reversed(range(10))))
    with caplog.at_level(logging.WARNING):
        found = given_set(DOCUMENTS, QUERIES, QRELS, "mine", texts)
    assert found.retrieval_set.documents == tuple(Document(f"d{row}", f"text {row}", "title") for row in range(12))
    assert found.retrieval_set.queries[3] == Query("q3", "query 3")
    assert caplog.messages == ["texts: 1 texts have no document vector and are left out"]


def test_texts_that_lack_one() -> None:
    texts = RetrievalSet("texts", tuple(Document(f"d{row}", "x") for row in range(10)), ())
    with pytest.raises(InputError, match="2 of 12 document vectors have no text in texts; the first is 'd10'"):
        given_set(DOCUMENTS, QUERIES, QRELS, "mine", texts)
    texts = RetrievalSet("texts", tuple(Document(f"d{row}", "x") for row in range(12)), ())
    with pytest.raises(InputError, match="10 of 10 query vectors"):
        given_set(DOCUMENTS, QUERIES, QRELS, "mine", texts)


def test_widths_must_agree() -> None:
    with pytest.raises(InputError, match=r"d.txt, q.txt.*document vectors have 4 dimensions, query vectors 5"):
        given_set(DOCUMENTS, vectors("q", 10, width=5), QRELS, "mine")


@pytest.mark.parametrize(
    ("judged", "problem"),
    [
        ({"q77": {"d1": 1}}, "split 'dev' judges query 'q77', which has no vector.\n  Its id is not in q.txt"),
        ({"q1": {"d1": 1, "d77": 0}}, "document 'd77' of query 'q1', which has no vector.\n  Its id is not in d.txt"),
    ],
)
def test_judgements_of_what_has_no_vector(judged: Qrels, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        given_set(DOCUMENTS, QUERIES, {"dev": judged}, "mine")


def test_groups_are_equal_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[1, 0], [0, 1], [1, -0.0], [0, 1], [-1, 0], [1, 1e-30]], dtype=np.float32)
    brute = [next(i for i in range(6) if (rows[i] == row).all()) for row in rows]
    assert brute == [0, 1, 0, 1, 4, 5]
    for block in (1, 4, 4096):
        monkeypatch.setattr(module, "_BLOCK", block)
        groups = vector_groups(rows)
        assert groups.dtype == np.int64
        assert groups.tolist() == brute
        assert vector_groups(np.asfortranarray(rows)).tolist() == brute


def test_split_keeps_equal_vectors_together() -> None:
    # d0 and d5 are one source, q1 and q8 one question.
    documents, queries = DOCUMENTS.vectors.copy(), QUERIES.vectors.copy()
    documents[5], queries[8] = documents[0], queries[1]
    given = given_set(GivenVectors(DOCUMENTS.ids, documents), GivenVectors(QUERIES.ids, queries), QRELS, "mine")
    for seed in range(8):
        found = given.split(seed)
        assert set(found.retrieval_set.qrels) == {"train", "dev", "test"}
        split_of = {query: split for split, judged in found.retrieval_set.qrels.items() for query in judged}
        assert split_of.keys() == QRELS["all"].keys()
        assert split_of["q0"] == split_of["q5"]
        assert split_of["q1"] == split_of["q8"]
        assert found.retrieval_set.documents == given.retrieval_set.documents
        assert found.retrieval_set.queries == given.retrieval_set.queries
    with pytest.raises(InputError, match="mine: no question"):
        given_set(DOCUMENTS, QUERIES, {}, "mine").split(0)
