from __future__ import annotations

import pytest
import torch

from jasper_rag.training.metric_sums import MetricSums


def test_means_are_weighted_and_of_what_was_given() -> None:
    sums = MetricSums()
    assert sums.means() == {}
    sums.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 3)
    sums.add({"a": torch.tensor(5.0, requires_grad=True), "c": torch.tensor(7, dtype=torch.int64)})
    assert sums.means() == {"a": 2.0, "b": 2.0, "c": 7.0}
    assert all(type(value) is float for value in sums.means().values())


def test_what_was_given_stays_as_it_is() -> None:
    value, sums = torch.tensor(1.0), MetricSums()
    for _ in range(2):
        sums.add({"a": value})
    assert value == 1


def test_sums_go_on_where_they_were_kept() -> None:
    values = torch.randn(20, generator=torch.Generator().manual_seed(0))
    whole, first, second = MetricSums(), MetricSums(), MetricSums()
    for number, value in enumerate(values):
        whole.add({"a": value}, 1 + number % 3)
        (first if number < 9 else second).add({"a": value}, 1 + number % 3)
        if number == 8:
            state = first.state_dict()
            assert all(type(number) is float or type(number) is int for number in state["a"])
            second.load_state_dict(state)
    assert second.means() == whole.means()
    assert MetricSums().state_dict() == {}
    assert second.taken() == whole.means()
    assert second.means() == {}
    whole.clear()
    assert whole.state_dict() == {}


def test_a_number_that_is_none_is_seen() -> None:
    sums = MetricSums("cpu")
    sums.add({"a": torch.tensor(float("nan")), "b": torch.tensor(1.0)})
    sums.add({"a": torch.tensor(1.0), "b": torch.tensor(1.0)})
    found = sums.means()
    assert found["a"] != found["a"]
    assert found["b"] == pytest.approx(1)
