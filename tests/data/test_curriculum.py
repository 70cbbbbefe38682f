from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.data.curriculum import Curriculum, Shares, draw_variants
from jasper_rag.data.dataset_config import DatasetConfig

EVEN = {"zero": 0.25, "centroid": 0.25, "keyword": 0.25, "residual": 0.25}


def curriculum(schedule: dict[str, Any] | None, base: dict[str, float] | None = None) -> Curriculum:
    settings = {"embedding_dim": 2, "n_neg": 1, "steering_probabilities": base or EVEN, "curriculum": schedule}
    return DatasetConfig.model_validate(settings).schedule()


@pytest.mark.parametrize(("epoch", "zero"), [(0, 0.5), (10, 0.46), (50, 0.3), (100, 0.1), (1000, 0.1)])
def test_zero_share_falls_in_a_line(epoch: int, zero: float) -> None:
    made = curriculum({"zero_prob_start": 0.5, "zero_prob_end": 0.1, "epochs_total": 100})
    assert made.probabilities(epoch) == pytest.approx((zero, *[(1 - zero) / 3] * 3))


@pytest.mark.parametrize(("epoch", "zero"), [(0, 0.7), (5, 0.5), (10, 0.3), (11, 0.3)])
def test_the_builders_spelling_means_the_guided_share(epoch: int, zero: float) -> None:
    made = curriculum({"mode": "linear", "start_distance": 0.3, "end_distance": 0.7, "warmup_epochs": 10})
    assert made.probabilities(epoch)[0] == pytest.approx(zero)


def test_cosine_is_half_way_in_the_middle_and_slow_at_the_ends() -> None:
    made = curriculum({"mode": "cosine", "zero_prob_start": 1.0, "zero_prob_end": 0.0, "epochs_total": 8})
    expected = [1 - (1 - math.cos(math.pi * min(epoch / 8, 1))) / 2 for epoch in range(10)]
    assert [made.probabilities(epoch)[0] for epoch in range(10)] == pytest.approx(expected)


def test_fixed_stays_at_the_start() -> None:
    made = curriculum({"mode": "fixed", "zero_prob_start": 0.4, "zero_prob_end": 0.0})
    assert made.probabilities(99)[0] == 0.4


def test_the_rest_is_shared_in_proportion() -> None:
    base = {"zero": 0.2, "centroid": 0.4, "keyword": 0.3, "residual": 0.1}
    made = curriculum({"zero_prob_start": 0.2, "zero_prob_end": 0.2}, base)
    assert made.probabilities(3) == pytest.approx(tuple(base.values()))
    made = curriculum({"zero_prob_start": 0.6, "zero_prob_end": 0.6}, base)
    assert made.probabilities(3) == pytest.approx((0.6, 0.2, 0.15, 0.05))


@pytest.mark.parametrize("schedule", [None, {}])
def test_without_a_schedule_the_base_holds(schedule: dict[str, Any] | None) -> None:
    base = {"zero": 0.1, "centroid": 0.2, "keyword": 0.3, "residual": 0.4}
    assert curriculum(schedule, base).probabilities(7) == tuple(base.values())


def test_the_first_spelling_goes_before_the_second() -> None:
    made = curriculum({"mode": "linear", "start_distance": 0.3, "warmup_epochs": 10, "zero_prob_start": 0.9})
    assert made.probabilities(0)[0] == 0.9


def test_a_mode_alone_takes_the_defaults() -> None:
    assert curriculum({"mode": "linear"}).probabilities(50)[0] == pytest.approx(0.3)


def test_nothing_to_share_among_leaves_zero_steering() -> None:
    base = {"zero": 1.0, "centroid": 0.0, "keyword": 0.0, "residual": 0.0}
    assert curriculum({"mode": "linear"}, base).probabilities(0) == (1.0, 0.0, 0.0, 0.0)


def test_no_warm_up_is_over_at_once() -> None:
    assert curriculum({"start_distance": 0.0, "end_distance": 1.0, "warmup_epochs": 0}).probabilities(0)[0] == 0


def test_epochs_count_from_zero() -> None:
    with pytest.raises(ValueError, match="from 0, got -1"):
        curriculum(None).probabilities(-1)


def test_drawn_shares_are_the_asked_ones() -> None:
    shares: Shares = (0.5, 0.2, 0.2, 0.1)
    drawn = draw_variants(1, 2, np.arange(40_000), shares)
    assert np.bincount(drawn, minlength=4) / len(drawn) == pytest.approx(shares, abs=0.01)


@given(st.tuples(*[st.floats(0, 1)] * 4).filter(lambda shares: sum(shares) > 0.01))
def test_a_share_of_nothing_is_never_drawn(parts: tuple[float, float, float, float]) -> None:
    zero, centroid, keyword, residual = (part / sum(parts) for part in parts)
    shares = (zero, centroid, keyword, residual)
    drawn = set(draw_variants(3, 0, np.arange(500), shares).tolist())
    assert drawn <= {number for number, share in enumerate(shares) if share}
