from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.data.keyword_lists import KeywordLists, keyword_lists

LISTS = st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=12)


@pytest.mark.slow
@given(LISTS, st.data())
def test_lists_of_some_pairs(lists: list[list[int]], data: st.DataObject) -> None:
    flat = keyword_lists(lists)
    assert flat.to_lists() == lists
    assert [flat[pair] for pair in range(len(flat))] == lists
    pairs = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    assert flat.of(np.array(pairs, dtype=np.int64)).to_lists() == [lists[pair] for pair in pairs]


def test_weights_go_along() -> None:
    flat = keyword_lists([[1, 2], [], [3]])
    weighted = KeywordLists(flat.values, flat.offsets, torch.tensor([0.1, 0.2, 0.3]))
    some = weighted.of(np.array([2, 0]))
    assert some.weights is not None
    assert some.weights.tolist() == pytest.approx([0.3, 0.1, 0.2])


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ([[0], [1.0]], "row 1 holds 1.0"),
        ([[0, True]], "row 0 holds True"),
        ([[0], ["a"]], "row 1 holds 'a'"),
        ([[2**63]], "row 0 holds 9223372036854775808"),
        ([[0], 3], "row 1 is 3"),
    ],
)
def test_what_is_no_list_of_whole_numbers_is_refused(lists: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        keyword_lists(lists)


@pytest.mark.parametrize("pair", [-1, 2])
def test_there_is_no_such_pair(pair: int) -> None:
    with pytest.raises(IndexError, match="of 2"):
        keyword_lists([[0], [1]])[pair]
