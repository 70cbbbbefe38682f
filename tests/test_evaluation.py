"""The metrics that scripts/evaluate.py reports, list by list."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.evaluation.retrieved_lists import (
    average_precision_at_k,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank_of,
)


def test_recall_is_keyed_by_the_k_that_was_asked_for() -> None:
    recall = recall_at_k([0, 1, 2], [0, 1, 2], [1, 3, 10])
    assert recall[10] == 1.0
    assert recall == {1: pytest.approx(1 / 3), 3: 1.0, 10: 1.0}


def test_recall_counts_what_is_relevant() -> None:
    assert recall_at_k([5, 3, 9, 1], {3, 1, 7}, [1, 2, 4]) == {
        1: 0.0,
        2: pytest.approx(1 / 3),
        4: pytest.approx(2 / 3),
    }
    assert recall_at_k(["b", "a"], ["a"], [1, 2]) == {1: 0.0, 2: 1.0}
    assert recall_at_k([0, 1], [], [5]) == {5: 0.0}


def test_nothing_retrieved() -> None:
    assert recall_at_k([], [1, 2], [1, 10]) == {1: 0.0, 10: 0.0}
    assert (reciprocal_rank_of([], [1]), ndcg_at_k([], [1], 10), average_precision_at_k([], [1])) == (0.0, 0.0, 0.0)
    assert (reciprocal_rank_of([], []), ndcg_at_k([], []), average_precision_at_k([], [])) == (0.0, 0.0, 0.0)


def test_a_document_listed_twice_counts_once() -> None:
    assert recall_at_k([1, 1, 1], [1, 2], [3]) == {3: 0.5}
    assert recall_at_k([1, 2], [1, 1, 2], [1]) == {1: 0.5}
    assert average_precision_at_k([1, 1, 1], [1]) == 1.0
    assert ndcg_at_k([1, 1], [1, 1]) == 1.0


def test_the_reciprocal_rank_is_that_of_the_first_hit() -> None:
    assert reciprocal_rank_of([9, 8, 1, 2], [1, 2]) == pytest.approx(1 / 3)
    assert reciprocal_rank_of([9, 8], [1]) == 0.0


def test_a_short_list_does_not_shorten_the_ideal() -> None:
    three = [0, 1, 2]
    gain = sum(1 / math.log2(rank + 1) for rank in (1, 2, 3))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, 11))
    assert ndcg_at_k(three, range(10), 10) == pytest.approx(gain / ideal)
    assert average_precision_at_k(three, range(10)) == pytest.approx(0.3)
    assert average_precision_at_k([1, 9, 2], [1, 2, 3]) == pytest.approx((1 + 2 / 3) / 3)


@pytest.mark.parametrize("k", [0, -1])
def test_a_cut_off_below_1_is_an_error(k: int) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        recall_at_k([1], [1], [k])


@pytest.mark.slow
@given(st.lists(st.integers(0, 30), unique=True, max_size=30), st.sets(st.integers(0, 30), min_size=1, max_size=9))
def test_the_figures_are_those_of_trec_eval(retrieved: list[int], relevant: set[int]) -> None:
    measures = {"recall.5,10", "ndcg_cut.10", "map_cut.100", "recip_rank"}
    evaluator = pytrec_eval.RelevanceEvaluator({"q": {str(row): 1 for row in relevant}}, measures)
    run = {str(row): float(len(retrieved) - place) for place, row in enumerate(retrieved)}
    theirs = evaluator.evaluate({"q": run}).get("q") if run else None
    expected = theirs or dict.fromkeys(("recall_5", "recall_10", "ndcg_cut_10", "map_cut_100", "recip_rank"), 0.0)
    ours = recall_at_k(retrieved, relevant, [5, 10])
    found = [ours[5], ours[10], ndcg_at_k(retrieved, relevant, 10), average_precision_at_k(retrieved, relevant)]
    np.testing.assert_allclose(
        [*found, reciprocal_rank_of(retrieved, relevant)],
        [expected[key] for key in ("recall_5", "recall_10", "ndcg_cut_10", "map_cut_100", "recip_rank")],
        atol=1e-6,
    )
