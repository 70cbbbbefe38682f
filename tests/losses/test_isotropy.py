from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jasper_rag.losses.isotropy import (
    SIGREG_NULL,
    IsotropyKind,
    IsotropyLoss,
    covariance_isotropy,
    sigreg_closed,
    sigreg_sliced,
)

KINDS: list[IsotropyKind] = ["closed", "sliced", "covariance"]


def gaussian(rows: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uneven(rows: int, dim: int) -> Tensor:
    return gaussian(rows, dim) * torch.linspace(0.3, 2, dim, dtype=torch.float64) + 0.2


def value_and_gradient(loss: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[float, Tensor]:
    rows = rows.clone().requires_grad_()
    value = loss(rows)
    return value.item(), torch.autograd.grad(value, rows)[0]


def brute_force(rows: Tensor) -> float:
    """The integral on a fine grid, over directions of Gaussian length, as the plain closed form has it."""
    count, dim = rows.shape
    times = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    weight = torch.exp(-times.square() / 2)
    gaps = (rows.unsqueeze(0) - rows.unsqueeze(1)).square().sum(dim=2) / dim
    squared = torch.exp(-times.square() / 2 * gaps.unsqueeze(2)).mean(dim=(0, 1))
    cross = torch.exp(-times.square() / 2 * (rows.square().sum(dim=1, keepdim=True) / dim)).mean(dim=0) * weight
    return count * torch.trapezoid((squared - 2 * cross + weight.square()) * weight, times).item()


def test_the_plain_closed_form_is_the_integral_and_the_correction_is_of_order_one_over_d() -> None:
    rows = uneven(12, 4000)
    assert sigreg_closed(rows).item() == pytest.approx(brute_force(rows), rel=2e-3)


def closed_form(rows: Tensor) -> Tensor:
    """As the module has it, left to autograd."""
    count, dim = rows.shape

    def kernel(start: float, squared: Tensor) -> Tensor:
        scaled = squared / dim
        return (start + scaled) ** -0.5 - 3 / (4 * dim) * scaled**2 * (start + scaled) ** -2.5

    pairs = kernel(1, (rows.unsqueeze(0) - rows.unsqueeze(1)).square().sum(dim=2)).mean()
    lengths = kernel(2, rows.square().sum(dim=1)).mean()
    return count * math.sqrt(2 * math.pi) * (pairs - 2 * lengths + 3**-0.5)


@pytest.mark.parametrize(("count", "learning"), [(1, 1), (40, 40), (300, 300), (300, 270), (300, 1), (280, 20)])
def test_blocks_and_rows_without_gradient_change_nothing(count: int, learning: int) -> None:
    rows = uneven(count, 6)
    value, gradient = value_and_gradient(lambda x: sigreg_closed(x, learning), rows)
    fixed = rows[learning:]
    expected, wanted = value_and_gradient(lambda x: closed_form(torch.cat([x, fixed])), rows[:learning])
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient[:learning], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_closed_and_sliced_agree_in_value_and_gradient() -> None:
    rows = uneven(100, 48)
    closed, gradient = value_and_gradient(sigreg_closed, rows)
    generator = torch.Generator().manual_seed(0)
    # Beyond t = 3 lies .3 % of the weight.
    sliced, estimate = value_and_gradient(lambda x: sigreg_sliced(x, 4000, generator, t_max=6, points=25), rows)
    assert sliced == pytest.approx(closed, rel=0.02)
    assert torch.cosine_similarity(gradient.flatten(), estimate.flatten(), dim=0) > 0.98
    assert (gradient - estimate).norm() < 0.2 * gradient.norm()


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "dim"), [(256, 128), (600, 48)])
def test_gaussian_rows_have_the_null_value(rows: int, dim: int) -> None:
    values = torch.stack([sigreg_closed(gaussian(rows, dim, seed)) for seed in range(6)])
    assert pytest.approx(1.0594, abs=1e-4) == SIGREG_NULL
    assert values.mean().item() == pytest.approx(SIGREG_NULL, abs=0.15)
    sliced = sigreg_sliced(gaussian(rows, dim), 512, torch.Generator().manual_seed(0))
    assert sliced.item() == pytest.approx(sigreg_closed(gaussian(rows, dim)).item(), abs=0.15)


def test_unit_rows_look_collapsed_until_multiplied_by_the_root_of_d() -> None:
    unit = torch.nn.functional.normalize(gaussian(256, 128), dim=1)
    assert sigreg_closed(unit).item() > 0.39 * 256
    assert sigreg_closed(unit * 128**0.5).item() == pytest.approx(SIGREG_NULL, abs=0.2)


def test_a_collapse_into_the_origin_costs_409_thousandths_a_row() -> None:
    collapsed = torch.zeros(50, 16)
    expected = 50 * math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))
    assert sigreg_closed(collapsed).item() == pytest.approx(expected, rel=1e-5)
    assert expected / 50 == pytest.approx(0.409, abs=1e-3)
    assert sigreg_sliced(collapsed, 4, t_max=6, points=33).item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_collapsed_batch_scores_far_worse_than_a_healthy_one(kind: IsotropyKind) -> None:
    loss = IsotropyLoss(kind, 32, slices=64)
    healthy, point = gaussian(128, 32), torch.ones(128, 32) + 0.01 * gaussian(128, 32)
    assert loss(healthy).abs() < 1
    assert loss(point) > 20
    assert loss(torch.ones(128, 32)) > 20
    assert loss(torch.zeros(128, 32)) > (20 if kind != "covariance" else -9)


@pytest.mark.parametrize("loss", [sigreg_closed, covariance_isotropy, lambda x: sigreg_sliced(x, 7, seeded())])
@pytest.mark.parametrize(("rows", "dim"), [(7, 4), (4, 7)])
def test_gradient_is_that_of_finite_differences(loss: Callable[[Tensor], Tensor], rows: int, dim: int) -> None:
    assert torch.autograd.gradcheck(loss, (uneven(rows, dim).requires_grad_(),))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_covariance_is_johns_statistic_less_its_null_and_a_cone() -> None:
    rows = uneven(30, 5)
    covariance = torch.cov(rows.T)
    trace = covariance.trace()
    mean = rows.mean(dim=0).square().sum()
    expected = (covariance / (trace / 5) - torch.eye(5)).square().sum() / 5 - 5 / 29 + 5 * (mean / (mean + trace)) ** 2
    torch.testing.assert_close(covariance_isotropy(rows), expected)
    torch.testing.assert_close(covariance_isotropy(1e-3 * rows), expected)
    many = torch.stack([covariance_isotropy(gaussian(40, 60, seed)) for seed in range(10)])
    assert many.mean().abs() < 0.2
    with pytest.raises(ValueError, match="two rows, got 1"):
        covariance_isotropy(rows[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_in_float32_under_autocast(kind: IsotropyKind) -> None:
    rows = gaussian(64, 16).float()
    loss = IsotropyLoss(kind, 16, slices=8).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(rows)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(rows))
    assert loss(rows.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queue_size", [0, 10])
def test_ranks_learn_what_one_with_the_whole_batch_would(
    kind: IsotropyKind, queue_size: int, in_threads: Callable[[int, Callable[[int], Any]], list[Any]]
) -> None:
    batches = [uneven(12, 6), uneven(12, 6).flip(0) + 0.1]

    def gradients(loss: IsotropyLoss, rows: slice) -> tuple[Tensor, Tensor]:
        loss(batches[0][rows])
        batch = batches[1][rows].clone().requires_grad_()
        value = loss(batch)
        value.backward()
        assert batch.grad is not None
        return value.detach(), batch.grad

    def fresh() -> IsotropyLoss:
        return IsotropyLoss(kind, 6, slices=5, queue_size=queue_size)

    value, gradient = gradients(fresh(), slice(0, 12))
    ranks = in_threads(2, lambda rank: gradients(fresh(), slice(6 * rank, 6 * rank + 6)))
    torch.testing.assert_close(torch.stack([found for found, _ in ranks]).mean(), value)
    torch.testing.assert_close(torch.cat([found for _, found in ranks]) / 2, gradient)


def test_directions_change_with_the_step_and_come_back_with_the_state() -> None:
    rows = uneven(20, 6)
    loss = IsotropyLoss("sliced", 6, slices=3, queue_size=30)
    first, saved = loss(rows), {}
    saved = {name: value.clone() if isinstance(value, Tensor) else value for name, value in loss.state_dict().items()}
    second = loss(rows)
    assert first != second
    again = IsotropyLoss("sliced", 6, slices=3, queue_size=30)
    again.load_state_dict(saved)
    assert torch.equal(again(rows), second)
    assert IsotropyLoss("sliced", 6, slices=3, seed=1)(rows) != first


def test_validation_neither_fills_the_queue_nor_counts() -> None:
    loss = IsotropyLoss("sliced", 6, slices=3, queue_size=30)
    with torch.no_grad():
        loss(uneven(5, 6))
    loss.eval()(uneven(5, 6))
    assert loss.queue is not None
    assert len(loss.queue) == 0
    assert loss.get_extra_state() == 0


def test_one_row_has_no_covariance() -> None:
    assert IsotropyLoss("covariance", 4)(torch.ones(1, 4)) == 0


def test_with_a_queue_few_rows_are_judged_as_many() -> None:
    rows = gaussian(300, 24) * torch.tensor([1.4] * 12 + [0.2] * 12, dtype=torch.float64)
    loss = IsotropyLoss("closed", 24, queue_size=290)
    values = [loss(batch) for batch in torch.split(rows, 10)]
    torch.testing.assert_close(values[-1].float(), (sigreg_closed(rows) - SIGREG_NULL).float(), atol=1e-4, rtol=1e-4)
    assert values[-1] > 3 * values[0]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="closed, sliced or covariance, got 'pca'"):
        IsotropyLoss("pca", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 0 and 17"):
        sigreg_sliced(torch.ones(2, 2), 0)
