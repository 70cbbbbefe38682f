from __future__ import annotations

import logging
import random
from dataclasses import replace

import numpy as np
import pytest

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.pair_table import pair_table
from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Query, RetrievalSet


def small_set(**qrels: dict[str, dict[str, int]]) -> RetrievalSet:
    documents = (Document("b", "two"), Document("a", "one"), Document("d", " ONE."), Document("c", "three"))
    queries = tuple(Query(f"q{number}", f"question {number}") for number in (2, 0, 1, 3))
    return RetrievalSet("small", documents, queries, qrels)


def test_rows_are_numbered_by_id() -> None:
    judged = small_set(
        train={"q2": {"b": 2, "a": 1, "unknown": 1}, "q0": {"c": 4}},
        dev={"q1": {"d": 1, "a": 0}},
        test={"q3": {"a": 2}},
    )
    table = pair_table(BuildInput(judged, relevance={("q1", "d"): 0.3}), BuildConfig())
    assert [document.id for document in table.documents] == ["a", "b", "c", "d"]
    assert [question.id for question in table.questions] == ["q0", "q1", "q2", "q3"]
    assert table.keys == [("q0", "c"), ("q2", "a"), ("q2", "b"), ("q1", "d"), ("q3", "a")]
    assert table.pairs.tolist() == [[0, 2], [2, 0], [2, 1], [1, 3], [3, 0]]
    assert {split: rows.tolist() for split, rows in table.splits.items()} == {
        "train": [0, 1, 2],
        "val": [3],
        "test": [4],
    }
    np.testing.assert_allclose(table.relevance, [1.0, 0.25, 0.5, 0.3, 0.5])
    # "one" and " ONE." are one text.
    assert table.text_group.tolist() == [0, 1, 2, 0]
    assert table.source_texts == ["one", "two", "three", " ONE."]
    assert table.question_texts == [f"question {number}" for number in range(4)]


def test_a_pair_in_two_splits_stays_in_the_first(caplog: pytest.LogCaptureFixture) -> None:
    judged = small_set(
        train={"q0": {"a": 1, "b": 1}}, dev={"q0": {"a": 1, "c": 1}, "q1": {"c": 1}}, test={"q2": {"b": 1}}
    )
    with caplog.at_level(logging.WARNING):
        table = pair_table(BuildInput(judged), BuildConfig())
    assert "1 pairs stand in several splits" in caplog.text
    assert table.keys == [("q0", "a"), ("q0", "b"), ("q0", "c"), ("q1", "c"), ("q2", "b")]
    assert table.splits["val"].tolist() == [2, 3]


def test_questions_without_an_answer_have_no_row() -> None:
    judged = small_set(train={"q0": {"a": 1}, "q3": {"a": 0}}, dev={"q1": {"b": 1}}, test={"q2": {"c": 1}})
    table = pair_table(BuildInput(judged), BuildConfig())
    assert [question.id for question in table.questions] == ["q0", "q1", "q2"]


@pytest.mark.parametrize("split", ["given", "source", "question"])
def test_splits_are_disjoint_cover_all_and_do_not_depend_on_the_order(library: RetrievalSet, split: str) -> None:
    config = BuildConfig.model_validate({"split": split, "split_ratios": (0.6, 0.2, 0.2)})
    table = pair_table(BuildInput(library), config)
    rows = np.concatenate(list(table.splits.values()))
    assert sorted(rows.tolist()) == list(range(82))
    questions = [set(table.pairs[part, 0].tolist()) for part in table.splits.values()]
    assert sum(map(len, questions)) == len(set.union(*questions)) == 80
    if split == "source":
        sources = [set(table.pairs[part, 1].tolist()) for part in table.splits.values()]
        assert sum(map(len, sources)) == len(set.union(*sources)) == 40
    chance = random.Random(1)
    qrels = dict(chance.sample(list(library.qrels["all"].items()), 80))
    shuffled = replace(
        library,
        documents=tuple(chance.sample(library.documents, 40)),
        queries=tuple(chance.sample(library.queries, 80)),
        qrels={"all": qrels},
    )
    other = pair_table(BuildInput(shuffled), config)
    assert (other.documents, other.questions) == (table.documents, table.questions)
    for name in ("pairs", "relevance", "text_group"):
        np.testing.assert_array_equal(getattr(other, name), getattr(table, name))
    assert {k: v.tolist() for k, v in other.splits.items()} == {k: v.tolist() for k, v in table.splits.items()}


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ({"test": {"q0": {"a": 1}}, "dev": {"q1": {"a": 1}}}, r"no questions to train on \(splits: dev, test\)"),
        ({"train": {"q0": {"unknown": 1}}, "dev": {"q1": {"a": 1}}, "test": {"q2": {"a": 1}}}, "no pair for the train"),
        ({"train": {"q0": {"a": 1}}, "dev": {"q0": {"a": 1}}, "test": {"q2": {"a": 1}}}, "no pair for the val split"),
        ({"train": {"q0": {"a": 1}}, "fold7": {"q1": {"a": 1}}}, "fold7"),
        ({}, "nothing to split"),
    ],
)
def test_unusable_splits_are_refused(qrels: dict[str, dict[str, dict[str, int]]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair_table(BuildInput(small_set(**qrels)), BuildConfig())


def test_a_set_without_a_test_share_has_no_test_split(library: RetrievalSet) -> None:
    config = BuildConfig.model_validate({"split": "question", "split_ratios": (0.9, 0.1, 0.0)})
    assert list(pair_table(BuildInput(library), config).splits) == ["train", "val"]
