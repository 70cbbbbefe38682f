from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.metrics.ranking import Judgements, ndcg
from jasper_rag.metrics.topk import row_top_k
from jasper_rag.retrieval.fusion import (
    WEIGHT_GRID,
    choose_weight,
    fused_top_k,
    reciprocal_rank_fusion,
    score_blocks,
    weighted,
    z_normalise,
)
from jasper_rag.retrieval.lexical import LexicalIndex

TEXTS = [f"word{number % 7} word{number % 5} common" for number in range(30)]
QUERY_TEXTS = [f"word{number % 7} word{number % 3}" for number in range(11)]


def _scores(seed: int, queries: int = 6, documents: int = 50) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((queries, documents)).astype(np.float32) * 3 + 100


def _one_positive(rows: list[int]) -> Judgements:
    return Judgements(np.arange(len(rows) + 1), np.array(rows, dtype=np.int64), np.ones(len(rows), dtype=np.int64))


def test_z_scores_have_mean_zero_and_deviation_one() -> None:
    scores = _scores(0)
    expected = (scores - scores.mean(1, keepdims=True, dtype=float)) / scores.std(1, keepdims=True, dtype=float)
    np.testing.assert_allclose(z_normalise(scores), expected, atol=1e-4)
    assert z_normalise(scores).dtype == np.float32


def test_equal_scores_become_zeros() -> None:
    scores = np.full((2, 1001), 0.1, dtype=np.float32)
    scores[1, 0] = 0.2
    normalised = z_normalise(scores)
    assert not normalised[0].any()
    assert normalised[1, 0] > 30


def test_weight_mixes_z_scores() -> None:
    dense, lexical = _scores(1), _scores(2) * 50
    np.testing.assert_array_equal(weighted(dense, lexical, 0.0), z_normalise(dense))
    np.testing.assert_array_equal(weighted(dense, lexical, 1.0), z_normalise(lexical))
    np.testing.assert_allclose(
        weighted(dense, lexical, 0.3), 0.7 * z_normalise(dense) + 0.3 * z_normalise(lexical), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\]"):
        weighted(_scores(0), _scores(1), weight)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[6, 50\].*\[6, 40\]"):
        weighted(_scores(0), _scores(1, documents=40), 0.5)


def _fuse_one(runs: list[list[int]], k: int, constant: float) -> list[int]:
    totals: dict[int, float] = {}
    for run in runs:
        for rank, row in enumerate(run, start=1):
            if row >= 0 and row not in run[: rank - 1]:
                totals[row] = totals.get(row, 0.0) + 1.0 / (constant + rank)
    return sorted(totals, key=lambda row: (-np.float32(totals[row]), row))[:k]


@pytest.mark.parametrize("constant", [0.0, 60.0])
@pytest.mark.parametrize("seed", range(5))
def test_reciprocal_ranks_add_up_as_in_a_loop(seed: int, constant: float) -> None:
    generator = np.random.default_rng(seed)
    runs = [generator.integers(-1, 9, size=(20, width)) for width in (4, 6, 3)]
    scores, rows = reciprocal_rank_fusion(runs, 5, constant)
    assert rows.shape == scores.shape == (20, 5)
    for query in range(20):
        expected = _fuse_one([run[query].tolist() for run in runs], 5, constant)
        assert rows[query].tolist() == expected + [-1] * (5 - len(expected))
    assert (np.diff(scores[(rows >= 0).all(axis=1)]) <= 0).all()
    np.testing.assert_array_equal(scores == -np.inf, rows == -1)


def test_reciprocal_rank_fusion_by_hand() -> None:
    scores, rows = reciprocal_rank_fusion([np.array([[7, 3]]), np.array([[3, 5]])], 10)
    assert rows.tolist() == [[3, 7, 5, -1]]
    assert scores[0, :3] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    assert reciprocal_rank_fusion([np.full((2, 3), -1)], 2)[1].tolist() == [[-1, -1], [-1, -1]]


def test_bad_runs_are_refused() -> None:
    run = np.array([[1]])
    with pytest.raises(ValueError, match=r"got \[1, 2\] rows"):
        reciprocal_rank_fusion([run, np.array([[1], [2]])], 1)
    with pytest.raises(ValueError, match=r"got \[\] rows"):
        reciprocal_rank_fusion([], 1)
    with pytest.raises(ValueError, match="got 0 and 60"):
        reciprocal_rank_fusion([run], 0)
    with pytest.raises(ValueError, match="got 1 and -1"):
        reciprocal_rank_fusion([run], 1, -1)


@pytest.mark.parametrize("block", [1, 4, 64])
def test_fused_search_equals_all_scores_at_once(block: int) -> None:
    generator = np.random.default_rng(3)
    documents, queries = generator.standard_normal((30, 8)), generator.standard_normal((11, 8))
    index, vectors = LexicalIndex.build(TEXTS), DocumentVectors(documents.astype(np.float32))
    scores, rows = fused_top_k(queries, vectors, index, QUERY_TEXTS, 0.4, 6, query_block=block)
    full = weighted((queries @ documents.T).astype(np.float32), index.scores(QUERY_TEXTS), 0.4)
    expected = row_top_k(full, 6)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_allclose(scores, expected[0], atol=1e-5)
    assert fused_top_k(queries[:0], vectors, index, [], 0.4, 6)[1].shape == (0, 6)


def test_numbers_that_disagree_are_refused() -> None:
    index = LexicalIndex.build(TEXTS)
    with pytest.raises(ValueError, match="2 query vectors for 1 texts, 30 document vectors for 30"):
        list(score_blocks(np.zeros((2, 3)), DocumentVectors(np.zeros((30, 3), np.float32)), index, ["a"]))
    with pytest.raises(ValueError, match="29 document vectors for 30"):
        fused_top_k(np.zeros((1, 3)), DocumentVectors(np.zeros((29, 3), np.float32)), index, ["a"], 0.5, 1)


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 4, 20])
def test_chosen_weight_is_the_best_of_all_tried(block: int) -> None:
    generator = np.random.default_rng(5)
    dense, lexical = _scores(6, 20), _scores(7, 20)
    positives = generator.integers(50, size=20)
    dense[np.arange(20), positives] += 4
    lexical[np.arange(20), positives] += 5
    judgements = _one_positive(positives.tolist())
    blocks = [
        (dense[start : start + block], lexical[start : start + block], np.arange(start, min(start + block, 20)))
        for start in range(0, 20, block)
    ]
    choice = choose_weight(iter(blocks), judgements)
    values = {
        weight: ndcg(row_top_k(weighted(dense, lexical, weight), 10)[1], judgements, 10).mean()
        for weight in WEIGHT_GRID
    }
    assert choice.curve == pytest.approx(values)
    assert choice.ndcg == pytest.approx(max(values.values()))
    assert choice.curve[choice.weight] == choice.ndcg


def test_equal_weights_give_the_middle_of_the_longest_plateau() -> None:
    # Document 0 is relevant; it leads for every weight but those near 1, where document 1 overtakes.
    dense = np.array([[1.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    lexical = np.array([[0.0, 1.0, 0.0, 0.0]], dtype=np.float32)
    blocks = [(dense, lexical, np.array([0]))]
    choice = choose_weight(blocks, _one_positive([0]), grid=(0.0, 0.1, 0.2, 0.3, 0.9, 1.0))
    assert list(choice.curve.values()) == pytest.approx([1, 1, 1, 1, 1 / np.log2(3), 1 / np.log2(3)])
    assert choice.weight == 0.1
    # All weights equal: the middle of the grid.
    assert choose_weight([(dense, dense, np.array([0]))], _one_positive([0])).weight == 0.5


def test_a_query_in_no_block_counts_zero() -> None:
    scores = np.array([[1.0, 0.0]], dtype=np.float32)
    choice = choose_weight([(scores, scores, np.array([1]))], _one_positive([0, 0]), grid=(0.0,))
    assert choice.ndcg == 0.5


def test_choosing_from_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 and"):
        choose_weight([], _one_positive([]))
    for grid in ((), (0.5, 0.1)):
        with pytest.raises(ValueError, match="ascending grid"):
            choose_weight([], _one_positive([0]), grid=grid)
    with pytest.raises(ValueError, match="got 2"):
        choose_weight([], _one_positive([0]), grid=(0.0, 2.0))
