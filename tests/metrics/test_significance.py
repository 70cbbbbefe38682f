from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test

from jasper_rag.metrics import significance
from jasper_rag.metrics.significance import bootstrap_interval, paired_randomisation


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.15])
def test_p_value_is_that_of_scipy(shift: float) -> None:
    generator = np.random.default_rng(0)
    a = generator.random(60)
    b = np.clip(a + generator.normal(shift, 0.3, size=60), 0, 1)
    expected = permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", vectorized=True, rng=1
    ).pvalue
    assert paired_randomisation(a, b, seed=2) == pytest.approx(expected, abs=0.015)


def test_p_value_is_exact_for_few_queries_with_ties() -> None:
    # Differences 1, 1, .5, 0: of 8 sign patterns, all plus and all minus reach the observed sum.
    a, b = np.array([1.0, 1.0, 0.5, 0.3]), np.array([0.0, 0.0, 0.0, 0.3])
    assert paired_randomisation(a, b, seed=0, n=20_000) == pytest.approx(2 / 8, abs=0.01)
    assert paired_randomisation(a, b, seed=0) == paired_randomisation(b, a, seed=0)


def test_rounding_does_not_decide_ties() -> None:
    # .1 + .2 - .3 is 5.6e-17, not 0: every labelling reaches it or ties with it.
    assert paired_randomisation(np.array([0.1, 0.2, -0.3]), np.zeros(3), seed=0, n=500) == 1.0


def test_equal_systems_give_one_and_clear_ones_the_least_p() -> None:
    values = np.random.default_rng(0).random(50)
    assert paired_randomisation(values, values, seed=0) == 1.0
    assert paired_randomisation(values + 1, values, seed=0, n=999) == 1 / 1000


def test_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).random(80)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert bootstrap_interval(values, seed=2, n=4000) == pytest.approx((expected.low, expected.high), abs=0.005)
    low, high = bootstrap_interval(values, seed=2, level=0.5)
    assert expected.low < low < values.mean() < high < expected.high


def test_one_query_has_no_spread() -> None:
    assert bootstrap_interval(np.array([0.25]), seed=0) == (0.25, 0.25)


@pytest.mark.slow
def test_seed_decides_and_small_parts_cover_all_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(0).random((2, 40))
    assert bootstrap_interval(a, seed=1) == bootstrap_interval(a, seed=1) != bootstrap_interval(a, seed=2)
    whole = paired_randomisation(a, b, seed=1, n=3000)
    monkeypatch.setattr(significance, "_CELLS", 40 * 7)
    assert paired_randomisation(a, b, seed=1, n=3000) == pytest.approx(whole, abs=0.04)
    assert paired_randomisation(a + 9, b, seed=1, n=3000) == 1 / 3001


def test_bad_input_is_refused() -> None:
    values = np.ones(3)
    with pytest.raises(ValueError, match=r"got shape \[0\]"):
        bootstrap_interval(values[:0], seed=0)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array([np.nan]), seed=0)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
        bootstrap_interval(values, seed=0, level=95)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        paired_randomisation(values, values, seed=0, n=0)
    with pytest.raises(ValueError, match="3 and 2 values"):
        paired_randomisation(values, values[:2], seed=0)
