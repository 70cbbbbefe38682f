from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.in_memory import retrieval_set_of
from jasper_rag.text.records import Document, Query

TEXTS = ["alpha", "beta", "gamma"]


def test_texts_are_numbered() -> None:
    found = retrieval_set_of(iter(TEXTS), [("what is b?", 1), ("what is c?", "2")], name="greek")
    assert found.name == "greek"
    assert found.documents == (Document("0", "alpha"), Document("1", "beta"), Document("2", "gamma"))
    assert found.queries == (Query("q0", "what is b?"), Query("q1", "what is c?"))
    assert found.qrels == {"all": {"q0": {"1": 1}, "q1": {"2": 1}}}


def test_ids_come_from_a_mapping_or_from_documents() -> None:
    expected = {"all": {"q0": {"b": 1}, "q1": {"a": 1}}}
    questions: list[tuple[str, str | int]] = [("what is b?", "b"), ("what comes first?", 0)]
    mapped = retrieval_set_of({"a": "alpha", "b": "beta"}, questions)
    listed = retrieval_set_of([Document("a", "alpha"), Document("b", "beta", title="Second")], questions)
    assert mapped.qrels == listed.qrels == expected
    assert mapped.documents == (Document("a", "alpha"), Document("b", "beta"))
    assert listed.documents[1].content == "Second. beta"


def test_equal_questions_become_one_with_several_answers() -> None:
    found = retrieval_set_of(TEXTS, [("which?", 0), ("what?", 1), ("which?", 2), ("which?", 0)])
    assert found.queries == (Query("q0", "which?"), Query("q1", "what?"))
    assert found.qrels == {"all": {"q0": {"0": 1, "2": 1}, "q1": {"1": 1}}}


def test_numpy_positions_are_positions() -> None:
    answers = np.array([2, 0])
    found = retrieval_set_of(TEXTS, zip(["what is c?", "what is a?"], answers, strict=True))
    assert found.qrels == {"all": {"q0": {"2": 1}, "q1": {"0": 1}}}


@pytest.mark.parametrize(
    ("corpus", "problem"),
    [
        ([], "the corpus is empty"),
        ({}, "the corpus is empty"),
        ("path/to/a/folder", "the corpus is one text .'path/to/a/folder'"),
        (["alpha", " \n"], "document '1' is empty"),
        ([Document("a", "x"), Document("b", "y"), Document("a", "z")], "document id 'a' occurs twice"),
        (["alpha", None], "document '1' is None; ids and texts must be strings"),
        ({1: "alpha", 2: "beta"}, "document 1 is 'alpha'; ids and texts must be strings"),
        ([Document("a", "x", None)], "document 'a': title None, topic ''"),  # type: ignore[arg-type]
        (["alpha", "be\ud800ta"], r"document '1' holds half a character \(U\+D800"),
        ({"caf\udce9": "alpha"}, r"holds half a character \(U\+DCE9"),
    ],
)
def test_bad_documents_are_refused(corpus: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        retrieval_set_of(corpus, [("what?", 0)])
    assert caught.value.field == "corpus"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("questions", "problem"),
    [
        ([], "there is no question"),
        ([("what?", 0), ("  ", 1)], "question 1 is empty"),
        ([("what?", 3)], "question 0 is answered by document 3, but there are 3 documents"),
        ([("what?", -1)], "question 0 is answered by document -1, but there are 3 documents"),
        ([("what?", "zeta")], "question 0 is answered by 'zeta', which is not in the corpus"),
        ([("what?", None)], "question 0 is answered by None, which is not in the corpus"),
        ([("what?", [1])], r"question 0 is answered by \[1\], which is not in the corpus"),
        ([("what?", 0), "who?"], r"question 1 is 'who\?'"),
        ([("what?", 0, 1)], r"question 0 is \('what\?', 0, 1\)"),
        ([(None, 0)], r"question 0 is \(None, 0\)"),
        ([5], "question 0 is 5"),
        ([("caf\udce9?", 0)], "question 0 holds half a character"),
        ([("what?", 1.0)], r"question 0 is answered by 1\.0, which is not in the corpus"),
    ],
)
def test_bad_questions_are_refused(questions: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        retrieval_set_of(TEXTS, questions)
    assert caught.value.field == "questions"
    assert caught.value.remedy
