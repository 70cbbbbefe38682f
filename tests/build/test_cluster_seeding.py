from __future__ import annotations

import numpy as np
import pytest

from jasper_rag.build.cluster_seeding import spread_rows

AXES = np.eye(6, dtype=np.float32)


def test_as_many_starts_as_rows_are_all_rows() -> None:
    chosen = spread_rows(AXES, np.ones(6), 6, np.random.default_rng(0))
    assert sorted(chosen.tolist()) == list(range(6))


@pytest.mark.parametrize("seed", range(10))
def test_far_groups_get_one_start_each(seed: int) -> None:
    near = np.repeat(AXES[:4], 25, axis=0) + np.random.default_rng(1).normal(0, 0.01, (100, 6)).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    chosen = spread_rows(near, np.ones(100), 4, np.random.default_rng(seed))
    assert sorted(chosen // 25) == [0, 1, 2, 3]


def test_rows_that_float32_cannot_tell_apart_are_still_different_rows() -> None:
    rows = np.repeat(AXES[:1], 4, axis=0)
    chosen = spread_rows(rows, np.ones(4), 4, np.random.default_rng(0))
    assert sorted(chosen.tolist()) == [0, 1, 2, 3]


def test_the_heaviest_row_is_the_likeliest_first() -> None:
    weights = np.array([1e-9, 1e-9, 1.0, 1e-9, 1e-9, 1e-9])
    assert spread_rows(AXES, weights, 1, np.random.default_rng(0)).tolist() == [2]
