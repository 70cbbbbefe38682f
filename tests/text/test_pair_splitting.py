"""Pairs dealt to splits: nothing shared, shares kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.pair_splitting import SPLITS, checked_shares, split_pairs

PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60)


@given(PAIRS, st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.15, 0.15), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0)]), st.booleans())
def test_no_query_and_no_document_in_two_splits(
    pairs: list[tuple[int, int]], shares: tuple[float, float, float], shuffle: bool
) -> None:
    queries, documents = [str(query) for query, _ in pairs], [row for _, row in pairs]
    try:
        found = split_pairs(queries, documents, shares, 1, shuffle=shuffle)
    except InputError:
        return
    for key in (queries, documents):
        splits: dict[object, set[str]] = {}
        for value, split in zip(key, found, strict=True):
            splits.setdefault(value, set()).add(split)
        assert all(len(names) == 1 for names in splits.values())
    assert set(found) == {name for name, share in zip(SPLITS, shares, strict=True) if share}


def test_shares_are_kept() -> None:
    rows = list(range(100))
    for seed in (0, 1):
        found = split_pairs([str(row) for row in rows], rows, (0.7, 0.1, 0.2), seed)
        assert [found.count(name) for name in SPLITS] == [70, 10, 20]
    assert found != split_pairs([str(row) for row in rows], rows, (0.7, 0.1, 0.2), 0)


def test_in_the_order_given() -> None:
    rows = [5, 5, 3, 9, 1]
    found = split_pairs(list("abcde"), rows, (0.5, 0.25, 0.25), 0, shuffle=False)
    assert found == ["train", "train", "train", "val", "test"]


@pytest.mark.parametrize(
    "shares",
    [(0.8, 0.1), (0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (0.0, 0.5, 0.5), (math.nan, 0.5, 0.5)],
)
def test_shares_that_are_none(shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"--split 0\.8 0\.1 0\.1"):
        checked_shares(shares)


def test_too_few_documents() -> None:
    with pytest.raises(InputError, match="2 documents with queries cannot be dealt to 3 splits"):
        split_pairs(["a", "b", "c"], [0, 1, 0], (0.8, 0.1, 0.1), 0)
