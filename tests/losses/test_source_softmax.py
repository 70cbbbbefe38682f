from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from jasper_rag.losses.source_softmax import source_softmax


class Batch(NamedTuple):
    prediction: Tensor
    sources: Tensor
    target: Tensor
    masked: Tensor
    weight: Tensor


def batch(seed: int = 0, rows: int = 6, sources: int = 23, dim: int = 5, positives: int = 4) -> Batch:
    """Float64; known positives padded with -1, the target among them in some rows only."""
    generator = torch.Generator().manual_seed(seed)
    masked = torch.randint(sources, (rows, positives), generator=generator)
    masked[torch.rand(rows, positives, generator=generator) < 0.4] = -1
    masked[0] = -1
    target = torch.randint(sources, (rows,), generator=generator)
    masked[::2, 0] = target[::2]
    prediction = torch.randn(rows, dim, generator=generator, dtype=torch.float64).requires_grad_()
    vectors = torch.randn(sources, dim, generator=generator, dtype=torch.float64)
    return Batch(prediction, vectors, target, masked, torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1)


def reference(given: Batch, temperature: float) -> Tensor:
    """Autograd's own composition."""
    logits = given.prediction @ given.sources.T / temperature
    hidden = torch.zeros_like(logits, dtype=torch.bool)
    for row, (target, positives) in enumerate(zip(given.target.tolist(), given.masked.tolist(), strict=True)):
        hidden[row, [column for column in positives if column not in (-1, target)]] = True
    losses = -logits.masked_fill(hidden, float("-inf")).log_softmax(dim=1).gather(1, given.target[:, None]).squeeze(1)
    return (losses * given.weight).sum() / given.weight.sum()


def loss(given: Batch, temperature: float, chunk: int = 100_000) -> Tensor:
    return source_softmax(
        given.prediction,
        given.sources,
        given.target,
        given.masked,
        temperature=temperature,
        weight=given.weight,
        chunk=chunk,
    )


def gradient(value: Tensor, given: Batch) -> Tensor:
    return torch.autograd.grad(value, given.prediction)[0]


@pytest.mark.parametrize("temperature", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [100_000, 9, 1])
def test_value_and_gradient_are_autograds_own(seed: int, temperature: float, chunk: int) -> None:
    given = batch(seed)
    expected, found = reference(given, temperature), loss(given, temperature, chunk)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(3 * found, given), gradient(3 * expected, given), rtol=1e-10, atol=1e-12)


def test_gradient_is_that_of_finite_differences() -> None:
    given = batch()
    assert torch.autograd.gradcheck(
        lambda prediction: loss(given._replace(prediction=prediction), 0.5), given.prediction
    )


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_single_precision_neither_overflows_nor_loses_digits(scale: float) -> None:
    given = batch(1, rows=40, sources=500, dim=16)
    exact = given._replace(prediction=(given.prediction.detach() * scale).requires_grad_())
    single = Batch(
        exact.prediction.detach().float().requires_grad_(),
        exact.sources.float(),
        exact.target,
        exact.masked,
        exact.weight.float(),
    )
    expected, found = reference(exact, 0.02), loss(single, 0.02)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient(found, single).double(), gradient(expected, exact), rtol=1e-3, atol=1e-4)


def test_large_logits_cancel_before_small_numbers_are_added() -> None:
    # Two logits of 50,000: float32 knows numbers of that size to .004, the loss is log 2.
    sources, target, masked = torch.ones(2, 1), torch.tensor([0]), torch.tensor([[-1]])
    found = source_softmax(torch.tensor([[1000.0]]), sources, target, masked, temperature=0.02)
    assert found.item() == pytest.approx(0.6931472, abs=1e-6)


def test_equal_weights_by_default() -> None:
    given = batch()
    expected = reference(given._replace(weight=torch.ones(6, dtype=torch.float64)), 0.1)
    found = source_softmax(given.prediction, given.sources, given.target, given.masked, temperature=0.1)
    torch.testing.assert_close(found, expected)


def test_the_target_is_never_masked() -> None:
    given = batch()
    listed = given._replace(masked=torch.cat([given.masked, given.target[:, None]], dim=1))
    assert torch.equal(loss(listed, 0.1), loss(given, 0.1))
    everything = given._replace(masked=torch.arange(23).expand(6, -1))
    value = loss(everything, 0.1)
    assert value == 0
    assert not gradient(value, everything).any()


def test_known_positives_are_no_negatives() -> None:
    # The second source is as near as the first; counted as a negative it would cost log 2.
    sources = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    prediction, target = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    without = source_softmax(prediction, sources, target, torch.tensor([[0, -1]]), temperature=0.05)
    masked = source_softmax(prediction, sources, target, torch.tensor([[0, 1]]), temperature=0.05)
    assert without.item() == pytest.approx(0.6931, abs=1e-3)
    assert masked.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("chunk", [100_000, 4])
def test_rows_of_weight_zero_do_not_count(chunk: int) -> None:
    given = batch()
    given.weight[:3] = 0
    found = loss(given, 0.1, chunk)
    torch.testing.assert_close(found, reference(given, 0.1))
    slopes = gradient(found, given)
    assert not slopes[:3].any()
    assert slopes[3:].any(dim=1).all()
    given.weight[:] = 0
    nothing = loss(given, 0.1, chunk)
    assert nothing == 0
    assert not gradient(nothing, given).any()


def test_only_the_prediction_gets_a_gradient() -> None:
    given = batch()
    given.sources.requires_grad_()
    torch.autograd.backward(loss(given, 0.1))
    assert given.prediction.grad is not None
    assert given.sources.grad is None


def test_works_without_gradient_and_leaves_its_inputs() -> None:
    given = batch()
    copies = [tensor.detach().clone() for tensor in given]
    with torch.inference_mode():
        value = loss(given, 0.1)
    torch.testing.assert_close(value, reference(given, 0.1).detach())
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(given, copies, strict=True))


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        loss(batch(), temperature)


@pytest.mark.parametrize("chunk", [100_000, 9, 1])
@pytest.mark.parametrize("frozen", [True, False])
def test_sources_get_a_gradient_on_request(chunk: int, frozen: bool) -> None:
    given = batch(2)
    sources = given.sources.requires_grad_()
    given = given._replace(prediction=given.prediction.detach().requires_grad_(not frozen))
    found = source_softmax(
        given.prediction,
        sources,
        given.target,
        given.masked,
        temperature=0.3,
        weight=given.weight,
        chunk=chunk,
        source_gradient=True,
    )
    inputs = [sources] if frozen else [sources, given.prediction]
    expected = torch.autograd.grad(2 * reference(given, 0.3), inputs)
    for mine, theirs in zip(torch.autograd.grad(2 * found, inputs), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
