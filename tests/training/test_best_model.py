from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from jasper_rag.training.best_model import BestModel


def test_a_quality_rises_and_a_loss_falls() -> None:
    model = nn.Linear(2, 2)
    quality, loss = BestModel("val/ndcg@10"), BestModel("val/total")
    values = [0.5, 0.4, 0.5, 0.6]
    assert [quality.improves({"val/ndcg@10": value}, step, model) for step, value in enumerate(values)] == [
        *(True, False, False, True)
    ]
    assert [loss.improves({"val/total": value}, step, model) for step, value in enumerate(values)] == [
        *(True, True, False, False)
    ]
    assert (quality.value, quality.step, loss.value, loss.step) == (0.6, 3, 0.4, 1)


def test_weights_are_copies_of_all_modules() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(3, 3)
    best = BestModel("val/total")
    best.improves({"val/total": 1.0}, 0, one, other)
    kept = one.weight.detach().clone()
    nn.init.zeros_(one.weight)
    best.improves({"val/total": 2.0}, 1, one, other)
    assert best.weights is not None
    assert torch.equal(best.weights[0]["weight"], kept)
    assert torch.equal(best.weights[1]["weight"], other.weight)


def test_nan_is_never_best() -> None:
    best = BestModel("val/total")
    assert not best.improves({"val/total": math.nan}, 0)
    assert best.improves({"val/total": 3.0}, 1)
    assert not best.improves({"val/total": math.nan}, 2)
    assert best.value == 3.0


def test_a_metric_that_is_not_measured_is_named() -> None:
    with pytest.raises(ValueError, match=r"'val/ndcg@5' is not measured; there are val/ndcg@10, val/total"):
        BestModel("val/ndcg@5").improves({"val/total": 1.0, "val/ndcg@10": 0.5, "train/total": 1.0}, 0)


def test_patience_counts_validations_without_a_better_one() -> None:
    best = BestModel("val/total", patience=2)
    found = []
    for step, value in enumerate([5.0, 4.0, 4.5, 4.5]):
        best.improves({"val/total": value}, step)
        found.append(best.exhausted(0.1))
    assert found == [False, False, False, True]
    assert not BestModel("val/total").exhausted(1.0)


def test_a_run_that_has_not_moved_is_given_half_its_time() -> None:
    best = BestModel("val/total", patience=1)
    for step in range(3):
        best.improves({"val/total": 1.0}, step)
    assert not best.exhausted(0.49)
    assert best.exhausted(0.5)


def test_a_step_counts_once() -> None:
    best = BestModel("val/total", patience=1)
    assert best.improves({"val/total": 1.0}, 0)
    assert best.improves({"val/total": 0.5}, 5)
    assert not best.improves({"val/total": 0.5}, 5)
    assert not best.exhausted(1.0)


def test_it_goes_on_where_it_was() -> None:
    best = BestModel("val/total", patience=2)
    for step, value in enumerate([3.0, 2.0, 2.5]):
        best.improves({"val/total": value}, step, nn.Linear(1, 1))
    again = BestModel("val/total", patience=2)
    again.load_state_dict(best.state_dict())
    assert again.weights is None
    for one in (best, again):
        assert not one.improves({"val/total": 2.2}, 3)
        assert one.exhausted(0.1)
    assert again.state_dict() == best.state_dict()
    other = BestModel("val/ndcg@10", patience=2)
    other.load_state_dict(best.state_dict())
    assert (other.value, other.exhausted(1.0)) == (None, False)
    other.load_state_dict({})
    assert other.value is None
