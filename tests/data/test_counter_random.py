from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.data import counter_random
from jasper_rag.data.counter_random import permutation, uniform


def test_the_bits_are_those_of_splitmix64() -> None:
    # Its first outputs for seed 0, as published with the reference implementation.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert counter_random._bits(0, np.arange(3)).tolist() == expected


@pytest.mark.slow
@given(st.integers(0, 2**70), st.integers(0, 10_000), st.lists(st.integers(0, 2**62), min_size=1, max_size=20))
def test_a_number_depends_on_nothing_but_its_row(seed: int, epoch: int, rows: list[int]) -> None:
    together = uniform(seed, epoch, np.array(rows))
    alone = [uniform(seed, epoch, np.array([row]))[0] for row in rows]
    assert together.tolist() == alone
    assert all(0 <= number < 1 for number in alone)


def test_numbers_are_uniform_and_change_with_seed_and_epoch() -> None:
    rows = np.arange(20_000)
    streams = [uniform(seed, epoch, rows) for seed in range(3) for epoch in range(3)]
    for stream in streams:
        assert np.histogram(stream, bins=10, range=(0, 1))[0] == pytest.approx(2000, abs=200)
    correlations = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlations).max() < 0.04


def test_an_order_is_a_permutation_and_changes_with_seed_and_epoch() -> None:
    orders = [permutation(seed, epoch, 100).tolist() for seed in range(3) for epoch in range(3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 9
    assert orders[0] == permutation(0, 0, 100).tolist()
    assert permutation(0, 0, 0).tolist() == []


@pytest.mark.slow
def test_no_place_is_favoured() -> None:
    first = [int(permutation(5, epoch, 10)[0]) for epoch in range(3000)]
    assert np.bincount(first, minlength=10) == pytest.approx(300, abs=60)
