from __future__ import annotations

import pytest
import torch

from jasper_rag.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_drops_the_share_asked_for_and_keeps_the_mean(p: float) -> None:
    given = torch.ones(400, 501)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = Dropout(p)(given)
    share = float((found == 0).to(torch.float64).mean())
    # Four standard deviations of a binomial share.
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / given.numel()) ** 0.5 + 2**-16)
    assert set(found[found != 0].tolist()) == {found.max().item()}
    assert found.max().item() == pytest.approx(1 / (1 - p), rel=2e-4)
    # Every place is as likely as every other: rows and columns agree within six deviations.
    for axis in (0, 1):
        means = (found == 0).to(torch.float64).mean(dim=axis)
        assert float((means - p).abs().max()) < 6 * (p * (1 - p) / found.shape[axis]) ** 0.5


def test_masks_are_those_of_the_generator_and_the_gradient_has_the_same() -> None:
    given = torch.randn(7, 3, requires_grad=True)
    layer = Dropout(0.3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = layer(given)
        two = layer(given)
        torch.manual_seed(1)
        again = layer(given)
    assert torch.equal(one, again)
    assert not torch.equal(one == 0, two == 0)
    torch.autograd.backward(one.sum())
    assert given.grad is not None
    assert torch.equal(given.grad == 0, one == 0)
    assert torch.allclose(given.grad[one != 0], torch.tensor(1 / 0.7), rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_shape_and_type_and_rests_in_evaluation(dtype: torch.dtype) -> None:
    given = torch.randn(5, 2, 3, dtype=dtype)
    layer = Dropout(0.25)
    assert layer(given).shape == given.shape
    assert layer(given).dtype == dtype
    assert layer.eval()(given) is given
    assert Dropout(0.0)(given) is given
    assert not Dropout(1.0)(given).any()
