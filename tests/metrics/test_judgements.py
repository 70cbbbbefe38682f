from __future__ import annotations

import logging

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.metrics.judgements import Judgements

ROWS = {"a": 0, "b": 1, "c": 2}
QRELS = {"q1": {"c": 2, "a": 0, "b": 1}, "q2": {}, "q3": {"a": 1, "gone": 1}, "other": {"b": 1}}


def test_follow_the_order_of_the_queries_and_leave_out_others() -> None:
    judgements = Judgements.from_qrels(QRELS, ["q3", "q1", "unjudged"], ROWS)
    assert len(judgements) == 3
    assert judgements.positives(0).tolist() == [0]
    assert sorted(judgements.positives(1).tolist()) == [1, 2]
    assert judgements.positives(2).tolist() == []
    assert judgements.relevant_counts().tolist() == [2, 2, 0]


def test_documents_outside_the_corpus_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Judgements.from_qrels(QRELS, ["q1", "q3"], ROWS)
    assert "1 of 5 judged documents" in caplog.text


def test_ids_that_match_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"none of the 5 .* 'c'"):
        Judgements.from_qrels(QRELS, ["q1", "q2", "q3"], {"A": 0})


def test_select_takes_queries_in_any_order() -> None:
    judgements = Judgements.from_qrels(QRELS, ["q1", "q2", "q3"], ROWS)
    chosen = judgements.select([2, 0, 2, 1])
    assert chosen.relevant_counts().tolist() == [2, 2, 2, 0]
    assert chosen.positives(1).tolist() == judgements.positives(0).tolist()
    assert len(judgements.select([])) == 0


def test_followed_by_puts_queries_behind_queries() -> None:
    judgements = Judgements.from_qrels(QRELS, ["q1", "q2", "q3"], ROWS)
    for cut in range(4):
        joined = judgements.select(range(cut)).followed_by(judgements.select(range(cut, 3)))
        for name in ("indptr", "documents", "grades"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(judgements, name))
            assert getattr(joined, name).dtype == np.int64
    twice = judgements.followed_by(judgements)
    assert twice.relevant_counts().tolist() == 2 * judgements.relevant_counts().tolist()
    assert [twice.positives(row).tolist() for row in range(6)] == 2 * [
        judgements.positives(r).tolist() for r in range(3)
    ]


@pytest.mark.parametrize(
    ("indptr", "documents", "grades", "message"),
    [
        ([0, 2], [1, 2], [1], "2 documents but 1 grades"),
        ([0, 1], [1, 2], [1, 1], "rise from 0 to 2"),
        ([1, 2], [1, 2], [1, 1], "rise from 0 to 2"),
        ([0, 2, 1, 2], [1, 2], [1, 1], "rise from 0 to 2"),
        ([], [], [], "rise from 0 to 0"),
        ([0, 1, 3], [7, 7, 7], [1, 1, 0], "query 1 judges document 7 twice"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    indptr: list[int], documents: list[int], grades: list[int], message: str
) -> None:
    arrays = [np.array(values, dtype=np.int64) for values in (indptr, documents, grades)]
    with pytest.raises(ValueError, match=message):
        Judgements(*arrays)


def test_gains_ignore_padding_repeats_and_negative_grades() -> None:
    judgements = Judgements.from_qrels({"q": {"a": 3, "b": -1}}, ["q"], ROWS)
    ranked = np.array([[-1, 0, 1, 0, 2, -2]])
    assert judgements.gains(ranked, 10).tolist() == [[0, 3, 0, 0, 0, 0]]
    assert judgements.gains(ranked, 2).tolist() == [[0, 3]]
