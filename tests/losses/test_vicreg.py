from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.losses.vicreg import VICRegLoss


def pair(rows: int, dim: int, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    predicted = spread * torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    return predicted.requires_grad_(), torch.randn(rows, dim, generator=generator, dtype=torch.float64)


def reference(predicted: Tensor, target: Tensor, gamma: float = 1.0, eps: float = 1e-4) -> tuple[Tensor, ...]:
    """Autograd's own composition over torch.var and torch.cov."""
    covariance = torch.cov(predicted.T)
    v = functional.relu(gamma - (predicted.var(dim=0) + eps).sqrt()).mean()
    off_diagonal = covariance - covariance.diag().diag()
    return v, functional.smooth_l1_loss(predicted, target), off_diagonal.square().sum() / predicted.shape[1]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("rows", "dim"), [(9, 4), (4, 9), (5, 5), (2, 3)])
@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_value_and_gradient_are_autograds_own(rows: int, dim: int, spread: float, scale: bool) -> None:
    predicted, target = pair(rows, dim, spread=spread)
    found = VICRegLoss(3.0, 2.0, 0.7, 0.9, 1e-3, scale=scale)(predicted, target)
    factor = dim**0.5 if scale else 1.0
    v, i, c = reference(predicted * factor, target * factor, 0.9, 1e-3)
    expected = 3.0 * v + 2.0 * i + 0.7 * c
    for name, value in [("vicreg", expected), ("vicreg_v", v), ("vicreg_i", i), ("vicreg_c", c)]:
        torch.testing.assert_close(found[name], value)
    mine, theirs = (torch.autograd.grad(value, predicted)[0] for value in (found["vicreg"], expected))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)])
@pytest.mark.parametrize(("rows", "dim"), [(7, 3), (3, 7)])
def test_gradient_is_that_of_finite_differences(weights: tuple[float, ...], rows: int, dim: int) -> None:
    predicted, target = pair(rows, dim, spread=0.3)
    loss = VICRegLoss(*weights)
    assert torch.autograd.gradcheck(lambda p, t: loss(p, t)["vicreg"], (predicted, target.requires_grad_()))


def test_only_the_total_has_a_gradient() -> None:
    found = VICRegLoss()(*pair(5, 3))
    assert [name for name, value in found.items() if value.requires_grad] == ["vicreg"]


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ((1.0, 0.0, 0.0), {"vicreg", "vicreg_v"}),
        ((0.0, 1.0, 0.0), {"vicreg", "vicreg_i"}),
        ((0.0, 0.0, 1.0), {"vicreg", "vicreg_c"}),
        ((0.0, 0.0, 0.0), {"vicreg"}),
    ],
)
def test_terms_of_weight_zero_are_absent(weights: tuple[float, ...], names: set[str]) -> None:
    predicted, target = pair(5, 3)
    found = VICRegLoss(*weights)(predicted, target)
    assert set(found) == names
    torch.autograd.grad(found["vicreg"], predicted)


def test_one_row_has_no_variance_to_lose() -> None:
    predicted, target = pair(1, 4)
    found = VICRegLoss()(predicted, target)
    assert found["vicreg_v"] == found["vicreg_c"] == 0
    (gradient,) = torch.autograd.grad(found["vicreg"], predicted)
    (expected,) = torch.autograd.grad(25 * functional.smooth_l1_loss(2 * predicted, 2 * target), predicted)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.slow
def test_a_collapse_of_unit_vectors_is_seen_and_undone() -> None:
    generator = torch.Generator().manual_seed(0)
    spread_out = functional.normalize(torch.randn(512, 64, generator=generator), dim=1)
    collapsed = functional.normalize(1 + 1e-3 * torch.randn(512, 64, generator=generator), dim=1)
    loss = VICRegLoss(25, 0, 1)
    assert loss(spread_out, spread_out)["vicreg_v"] < 0.05
    assert loss(collapsed, collapsed)["vicreg_v"] > 0.9
    # Blind without the scale: the best possible unit vectors look like a collapse.
    assert VICRegLoss(scale=False)(spread_out, spread_out)["vicreg_v"] > 0.8
    moving = collapsed.clone().requires_grad_()
    optimizer = torch.optim.Adam([moving], lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(loss(moving, moving.detach())["vicreg"])
        optimizer.step()
    assert loss(moving, moving)["vicreg_v"] < 0.1


def test_identical_rows_and_half_precision_stay_finite() -> None:
    predicted = torch.ones(4, 6, dtype=torch.bfloat16, requires_grad=True)
    found = VICRegLoss()(predicted, torch.ones(4, 6))["vicreg"]
    assert found.dtype == torch.float32
    (gradient,) = torch.autograd.grad(found, predicted)
    assert gradient.isfinite().all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative, got 1, -1 and 1"):
        VICRegLoss(1, -1, 1)
    with pytest.raises(ValueError, match=r"predictions \[2, 3\] for targets \[2, 4\]"):
        VICRegLoss()(torch.zeros(2, 3), torch.zeros(2, 4))
