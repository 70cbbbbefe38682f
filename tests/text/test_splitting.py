from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Query, RetrievalSet
from jasper_rag.text.splitting import ensure_splits, leak_report, split_by_document, split_by_query

Pairs = list[tuple[int, int]]


def make(qrels: Mapping[str, Pairs], documents: int = 0) -> RetrievalSet:
    """Return a set from (query number, document number) pairs, every pair relevant."""
    pairs = [pair for split in qrels.values() for pair in split]
    count = max([documents, *(d + 1 for _, d in pairs)])
    judged: dict[str, dict[str, dict[str, int]]] = {split: {} for split in qrels}
    for split, given_pairs in qrels.items():
        for q, d in given_pairs:
            judged[split].setdefault(f"q{q}", {})[f"d{d}"] = 1
    queries = tuple(Query(f"q{q}", f"question {q}") for q in sorted({q for q, _ in pairs}))
    return RetrievalSet("set", tuple(Document(f"d{d}", f"text {d}") for d in range(count)), queries, judged)


def singles(start: int, stop: int) -> Pairs:
    return [(n, n) for n in range(start, stop)]


def members(found: RetrievalSet) -> dict[str, set[str]]:
    return {split: set(qrels) for split, qrels in found.qrels.items()}


def connected(found: RetrievalSet) -> list[set[str]]:
    """Return the groups of queries that share documents, by repeated merging (the slow reference)."""
    groups: list[tuple[set[str], set[str]]] = []
    for qrels in found.qrels.values():
        for query, judged in qrels.items():
            documents, queries = set(judged), {query}
            apart = []
            for group in groups:
                if group[0] & documents:
                    documents |= group[0]
                    queries |= group[1]
                else:
                    apart.append(group)
            groups = [*apart, (documents, queries)]
    return [queries for _, queries in groups]


pairs_strategy = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60)


@pytest.mark.slow
@given(pairs_strategy, st.integers(0, 5))
def test_split_by_document_shares_nothing_and_loses_nothing(pairs: Pairs, seed: int) -> None:
    given_set = make({"all": pairs})
    groups = connected(given_set)
    if len(groups) < 3:
        with pytest.raises(InputError, match=f"in {len(groups)} groups"):
            split_by_document(given_set, seed)
        return
    found = split_by_document(given_set, seed)
    splits = members(found)
    assert list(splits) == ["train", "dev", "test"]
    assert all(splits.values())
    assert sum(map(len, splits.values())) == len(given_set.queries)
    for group in groups:
        assert sum(bool(group & queries) for queries in splits.values()) == 1
    assert leak_report(found).shared_sources.count == 0
    assert {q: judged for qrels in found.qrels.values() for q, judged in qrels.items()} == given_set.qrels["all"]
    assert (found.documents, found.queries) == (given_set.documents, given_set.queries)


def shuffled(given_set: RetrievalSet, seed: int) -> RetrievalSet:
    rng = random.Random(seed)
    documents, queries = list(given_set.documents), list(given_set.queries)
    rng.shuffle(documents)
    rng.shuffle(queries)
    qrels = {}
    for split, judged in given_set.qrels.items():
        order = list(judged)
        rng.shuffle(order)
        qrels[split] = {query: dict(reversed(list(judged[query].items()))) for query in order}
    return RetrievalSet(given_set.name, tuple(documents), tuple(queries), qrels)


@pytest.mark.parametrize("split", [split_by_document, split_by_query, ensure_splits])
def test_stable_under_the_order_of_the_input_and_different_by_seed(
    split: Callable[[RetrievalSet, int], RetrievalSet],
) -> None:
    given_set = make({"all": [(n, n * 7 % 60) for n in range(100)]})
    once = members(split(given_set, 3))
    assert once == members(split(shuffled(given_set, 1), 3))
    assert once != members(split(given_set, 4))
    assert {name: len(queries) for name, queries in once.items()} == pytest.approx(
        {"train": 80, "dev": 10, "test": 10}, abs=2
    )


def test_equal_questions_and_equal_documents_stay_together() -> None:
    base = make({"all": singles(0, 30)})
    queries = tuple(dataclasses.replace(q, text="Same?" if q.id in ("q1", "q2") else q.text) for q in base.queries)
    documents = tuple(dataclasses.replace(d, text="SAME!" if d.id in ("d2", "d3") else d.text) for d in base.documents)
    for seed in range(8):
        found = split_by_document(dataclasses.replace(base, queries=queries, documents=documents), seed)
        assert any({"q1", "q2", "q3"} <= split for split in members(found).values())
        by_query = split_by_query(dataclasses.replace(base, queries=queries), seed)
        assert any({"q1", "q2"} <= split for split in members(by_query).values())


def test_judgements_of_zero_do_not_join_questions() -> None:
    qrels = {"all": {f"q{n}": {f"d{n}": 1, "d0": 0} if n else {"d0": 0} for n in range(6)}}
    base = dataclasses.replace(make({"all": singles(0, 6)}), qrels=qrels)
    found = split_by_document(base, 0)
    assert all(members(found).values())
    assert sum(map(len, members(found).values())) == 6


def test_fractions() -> None:
    base = make({"all": singles(0, 40)})
    found = split_by_document(base, 0, fractions=(0.5, 0, 0.5))
    assert {split: len(queries) for split, queries in found.qrels.items()} == {"train": 20, "test": 20}
    for wrong in ((0.5, 0.1, 0.1), (1.2, -0.1, -0.1)):
        with pytest.raises(ValueError, match="sum to 1") as caught:
            split_by_document(base, 0, fractions=wrong)
        assert not isinstance(caught.value, InputError)


def test_one_huge_group_goes_to_train_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    base = make({"all": [*((n, 0) for n in range(98)), (98, 1), (99, 2)]})
    with caplog.at_level(logging.WARNING):
        found = split_by_document(base, 0)
    assert {split: len(queries) for split, queries in found.qrels.items()} == {"train": 98, "dev": 1, "test": 1}
    assert "the largest group that shares sources has 98" in caplog.text


def test_given_splits_are_kept() -> None:
    base = make({"test": singles(2, 3), "dev": singles(1, 2), "train": singles(0, 1)})
    found = ensure_splits(base, 0)
    assert found.qrels == base.qrels
    assert list(found.qrels) == ["train", "dev", "test"]


@pytest.mark.parametrize("name", ["all", "train", "default"])
def test_a_single_split_is_divided(name: str) -> None:
    base = make({name: singles(0, 50)})
    assert ensure_splits(base, 1) == split_by_document(base, 1)


def test_missing_splits_are_carved_out_of_train() -> None:
    base = make({"train": [(n, n // 2) for n in range(200)], "test": singles(300, 320)})
    found = ensure_splits(base, 0)
    splits = members(found)
    assert splits["test"] == members(base)["test"]
    assert (len(splits["train"]), len(splits["dev"])) == (180, 20)
    assert leak_report(found).shared_sources.count == 0
    found = ensure_splits(make({"train": singles(0, 100), "dev": singles(300, 320)}), 0)
    assert {split: len(queries) for split, queries in found.qrels.items()} == {"train": 90, "dev": 20, "test": 10}


def test_an_empty_split_counts_as_missing() -> None:
    base = make({"train": singles(0, 20), "dev": [], "test": singles(30, 35)})
    assert len(ensure_splits(base, 0).qrels["dev"]) == 2


@pytest.mark.parametrize("names", [("test",), ("dev", "test"), ("dev",)])
def test_a_set_for_evaluation_only_stays_as_it_is(names: tuple[str, ...]) -> None:
    base = make({name: singles(number, number + 1) for number, name in enumerate(names)})
    assert ensure_splits(base, 0) is base


@pytest.mark.parametrize(
    ("qrels", "problem"),
    [
        ({}, "nothing to split"),
        ({"train": []}, "nothing to split"),
        ({"all": singles(0, 2)}, "2 questions in 2 groups"),
        ({"all": [(0, 0), (1, 0), (2, 0), (3, 0)]}, "4 questions in 1 groups"),
        ({"train": singles(0, 1), "test": singles(1, 2)}, "1 questions in 1 groups"),
        ({"train": singles(0, 9), "extra": singles(9, 12)}, "splits 'extra' beside 'train'"),
        ({"one": singles(0, 9), "two": singles(9, 12)}, "splits 'one', 'two' beside no other"),
    ],
)
def test_refusals(qrels: dict[str, Pairs], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ensure_splits(make(qrels, documents=1), 0)


@pytest.mark.parametrize("split", [split_by_document, split_by_query])
def test_blank_texts_do_not_belong_together(split: Callable[[RetrievalSet, int], RetrievalSet]) -> None:
    given_set = make({"all": singles(0, 50)})
    blank = dataclasses.replace(
        given_set,
        documents=tuple(dataclasses.replace(document, text="") for document in given_set.documents),
        queries=tuple(dataclasses.replace(query, text=" ") for query in given_set.queries),
    )
    assert split(blank, 0).qrels == split(given_set, 0).qrels
