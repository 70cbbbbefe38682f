from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.models.projection_head import ProjectionHead


def vectors(rows: int = 40, dim: int = 12, seed: int = 0) -> Tensor:
    spectrum = torch.linspace(2, 0.2, dim)
    return functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)) * spectrum, dim=1)


@pytest.mark.parametrize("output_dim", [12, 20])
def test_an_untrained_head_ranks_exactly_as_the_base(output_dim: int) -> None:
    queries, documents = vectors(9, seed=1), vectors()
    head = ProjectionHead(12, output_dim)
    q, d = head(queries), head(documents)
    assert q.shape == (9, output_dim)
    assert q.square().sum(dim=1).tolist() == pytest.approx([output_dim] * 9, rel=1e-5)
    base = (queries @ documents.T).argsort(dim=1, descending=True)
    assert torch.equal(torch.cdist(q, d).argsort(dim=1), base)
    torch.testing.assert_close(torch.cdist(q, d).square() / output_dim, 2 - 2 * queries @ documents.T)


def test_the_whole_head_learns() -> None:
    head = ProjectionHead(12, 12)
    head(vectors()).square().sum().backward()
    assert head.linear.weight.grad is not None
    assert head.linear.weight.grad.any()
    assert head.out.weight.grad is not None
    assert head.out.weight.grad.any()
    # The hidden layer has a gradient once the last one is no longer 0.
    torch.nn.init.normal_(head.out.weight)
    head(vectors()).square().sum().backward()
    assert head.hidden.weight.grad is not None
    assert head.hidden.weight.grad.any()


def test_a_cut_takes_the_first_coordinates_until_it_has_seen_vectors() -> None:
    head, seen = ProjectionHead(12, 4), vectors()
    torch.testing.assert_close(head(seen), 2 * seen[:, :4])
    share = head.initialise_from(seen)
    values = np.linalg.svd(seen.numpy(), compute_uv=False) ** 2
    assert share == pytest.approx(values[:4].sum() / values.sum(), rel=1e-5)
    mapped = head(seen)
    assert mapped.square().sum(dim=1).mean().item() == pytest.approx(4, rel=1e-5)
    weight = head.linear.weight * share**0.5
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-5, rtol=0)
    # No other four directions keep more: the best approximation of the Gram matrix.
    u, s, v = torch.linalg.svd(seen)
    best = (u[:, :4] * s[:4]) @ v[:4]
    torch.testing.assert_close(mapped @ mapped.T * share / 4, best @ best.T, atol=1e-5, rtol=0)
    again = ProjectionHead(12, 4)
    again.initialise_from(-seen)
    torch.testing.assert_close(again.linear.weight, head.linear.weight)


def test_nothing_is_turned_where_nothing_is_cut() -> None:
    head = ProjectionHead(12, 12)
    assert head.initialise_from(vectors()) == 1.0
    assert torch.equal(head.linear.weight, torch.eye(12))


@pytest.mark.parametrize("output_dim", [5, 12, 17])
def test_it_is_two_affine_layers(output_dim: int) -> None:
    torch.manual_seed(0)
    head = ProjectionHead(12, output_dim, hidden_dim=7)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    (first, first_bias), (last, last_bias) = head.as_two_layers()
    found = functional.linear(functional.gelu(functional.linear(vectors(), first, first_bias)), last, last_bias)
    torch.testing.assert_close(found, head(vectors()), atol=1e-5, rtol=1e-5)


def test_a_predictor_of_scale_one_starts_as_the_identity() -> None:
    assert torch.equal(ProjectionHead(12, 12, scale=1.0)(vectors()), vectors())


def test_wrong_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3, 0 and 6"):
        ProjectionHead(3, 0)
    with pytest.raises(ValueError, match="width 4 for a head of width 3"):
        ProjectionHead(3, 3)(torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"\[n, 3\], got \[2, 4\]"):
        ProjectionHead(3, 2).initialise_from(torch.ones(2, 4))
    with pytest.raises(ValueError, match="non-zero"):
        ProjectionHead(3, 2).initialise_from(torch.zeros(2, 3))
