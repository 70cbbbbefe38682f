from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.metrics import ranking
from jasper_rag.metrics.ranking import Judgements, evaluate, lexicographic_ranks, order_run, per_query

CUTS = {"ndcg": (1, 3, 10), "recall": (1, 3, 10), "mrr": (1, 3, 10), "map": (3, 10), "precision": (1, 3, 10)}
TREC = {"ndcg": "ndcg_cut", "recall": "recall", "map": "map_cut", "precision": "P"}


def _judgements(*grades: dict[int, int]) -> Judgements:
    qrels = {f"q{i}": {str(row): grade for row, grade in by_row.items()} for i, by_row in enumerate(grades)}
    return Judgements.from_qrels(qrels, list(qrels), {str(row): row for row in range(100)})


def _trec(run: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]], query_ids: list[str]) -> dict[str, Any]:
    """trec_eval's per-query values; a query it does not report counts 0."""
    measures = {f"{name}.{','.join(map(str, CUTS[key]))}" for key, name in TREC.items()}
    found = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    values = {
        f"{key}@{k}": np.array([found.get(query, {}).get(f"{name}_{k}", 0.0) for query in query_ids])
        for key, name in TREC.items()
        for k in CUTS[key]
    }
    for k in CUTS["mrr"]:
        # recip_rank has no cut-off: a reciprocal rank below 1 / k lies behind it.
        full = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)
        reciprocal = np.array([full.get(query, {}).get("recip_rank", 0.0) for query in query_ids])
        values[f"mrr@{k}"] = np.where(reciprocal >= 1.0 / k - 1e-9, reciprocal, 0.0)
    return values


def _compare(generator: np.random.Generator, queries: int, documents: int, depth: int) -> None:
    # Ids of mixed length, so that their order as strings is not the order of their rows.
    document_ids = [f"d{number}" for number in generator.permutation(documents)]
    query_ids = [f"q{i}" for i in range(queries)]
    rows = np.stack([generator.permutation(documents)[:depth] for _ in query_ids])
    # Few distinct scores make ties; steps of 1e-9 are ties in float32 only.
    scores = generator.integers(0, 4, size=rows.shape) + 1e-9 * generator.integers(0, 3, size=rows.shape)
    rows[generator.random(rows.shape) < 0.2] = -1
    rows[generator.random(queries) < 0.1] = -1
    qrels = {
        query: {
            document_ids[row]: int(generator.integers(-1, 4))
            for row in generator.permutation(documents)[: generator.integers(0, min(12, documents))]
        }
        for query in query_ids
        if generator.random() < 0.9
    }
    qrels = {query: by_document for query, by_document in qrels.items() if by_document}
    run = {
        query: {document_ids[row]: float(score) for row, score in zip(rows[i], scores[i], strict=True) if row >= 0}
        for i, query in enumerate(query_ids)
        if (rows[i] >= 0).any()
    }
    judgements = Judgements.from_qrels(qrels, query_ids, {name: row for row, name in enumerate(document_ids)})
    ranked = order_run(scores, rows, lexicographic_ranks(document_ids))
    ours = per_query(ranked, judgements, CUTS)
    for name, expected in _trec(run, qrels, query_ids).items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_trec_eval_on_thousands_of_runs(seed: int) -> None:
    _compare(np.random.default_rng(seed), queries=150, documents=30 + seed, depth=5 + seed)


@pytest.mark.slow
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 15), st.integers(1, 20))
def test_equal_to_trec_eval_on_small_runs(seed: int, queries: int, documents: int, depth: int) -> None:
    _compare(np.random.default_rng(seed), queries, documents, depth)


def test_by_hand() -> None:
    judgements = _judgements({0: 3, 1: 1, 2: 0, 9: 2})
    ranked = np.array([[5, 1, 2, 0]])
    found = evaluate(ranked, judgements, {"ndcg": (4,), "recall": (2, 4), "mrr": (4,), "map": (4,), "precision": (4,)})
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert found == pytest.approx(
        {
            "ndcg@4": (1 / math.log2(3) + 3 / math.log2(5)) / best,
            "recall@2": 1 / 3,
            "recall@4": 2 / 3,
            "mrr@4": 1 / 2,
            "map@4": (1 / 2 + 2 / 4) / 3,
            "precision@4": 2 / 4,
        }
    )


def test_keys_carry_the_asked_k_when_fewer_are_retrieved() -> None:
    found = evaluate(np.array([[0, 1]]), _judgements({0: 1}))
    assert found == pytest.approx({"ndcg@10": 1, "recall@10": 1, "mrr@10": 1, "map@100": 1, "precision@10": 0.1})
    assert evaluate(np.zeros((1, 0), dtype=np.int64), _judgements({0: 1}))["mrr@10"] == 0.0


def test_unanswered_and_unjudged_queries_count_zero() -> None:
    ranked = np.array([[0], [-1], [0]])
    assert evaluate(ranked, _judgements({0: 1}, {0: 1}, {}))["ndcg@10"] == pytest.approx(1 / 3)


def test_a_repeated_document_counts_once_and_keeps_its_rank() -> None:
    ranked = np.array([[0, 0, 1]])
    judgements = _judgements({0: 1, 1: 1})
    assert ranking.recall(ranked, judgements, 10).tolist() == [1.0]
    assert ranking.average_precision(ranked, judgements, 10) == pytest.approx([(1 + 2 / 3) / 2])


def test_relevant_documents_outside_the_corpus_lower_recall() -> None:
    judgements = _judgements({0: 1, 500: 1})
    assert ranking.recall(np.array([[0]]), judgements, 10).tolist() == [0.5]
    assert ranking.recall(np.array([[-2]]), judgements, 10).tolist() == [0.0]


@pytest.mark.parametrize(
    ("ranked", "ks", "message"),
    [
        (np.array([[0.0]]), {"ndcg": (10,)}, "integer document rows"),
        (np.array([0]), {"ndcg": (10,)}, "integer document rows"),
        (np.array([[0], [1]]), {"ndcg": (10,)}, "2 rows.*1 queries"),
        (np.array([[0]]), {"ndcg": (0,)}, "k must be at least 1, got 0"),
        (np.array([[0]]), {"hits": (1,)}, r"unknown metrics \['hits'\]"),
    ],
)
def test_bad_input_is_refused(ranked: Any, ks: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(ranked, _judgements({0: 1}), ks)


def test_no_query_has_no_mean() -> None:
    with pytest.raises(ValueError, match="0 queries"):
        evaluate(np.zeros((0, 1), dtype=np.int64), Judgements.from_qrels({}, [], {}))


def test_order_run_breaks_ties_by_id_descending_and_puts_padding_last() -> None:
    ids = lexicographic_ranks(["b", "c", "a", "é"])
    assert ids.tolist() == [1, 2, 0, 3]
    rows = np.array([[0, -1, 1, 3, 2]])
    ordered = order_run(np.array([[1.0, np.nan, 1.0, 0.5, 1.0 + 1e-12]]), rows, ids)
    assert ordered.tolist() == [[1, 0, 2, 3, -1]]


def test_order_run_refuses_nan_and_other_shapes() -> None:
    with pytest.raises(ValueError, match="NaN"):
        order_run(np.array([[np.nan]]), np.array([[0]]), np.array([0]))
    with pytest.raises(ValueError, match=r"\[1, 2\].*\[1, 1\]"):
        order_run(np.zeros((1, 2)), np.array([[0]]), np.array([0]))
