from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import RAG_supporters.nn.losses.routing_losses as loss_names
from jasper_rag.losses import routing_losses
from jasper_rag.losses.routing_losses import DisentanglementLoss, EntropyRegularization, ResidualPenalty, RoutingLoss

B, K, D = 6, 4, 5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def simplex(rows: int = B, seed: int = 0) -> Tensor:
    return normal(rows, K, seed=seed).detach().softmax(dim=1).requires_grad_()


def topics(rows: int = B) -> Tensor:
    return torch.arange(rows) % K


# Routing.


def test_routing_of_logits_worked_out_by_hand() -> None:
    # exp: (1, 3) and (1, 1); the probabilities of the true topics are 3/4 and 1/2.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]], dtype=torch.float64)
    found = RoutingLoss()(logits, torch.tensor([1, 1]))
    assert found["routing"].item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert found["routing_acc"] == 0.5  # of equal logits the first counts
    weighted = RoutingLoss()(logits, torch.tensor([1, 1]), sample_weight=torch.tensor([3, 1]))
    assert weighted["routing"].item() == pytest.approx((3 * math.log(4 / 3) + math.log(2)) / 4)
    assert weighted["routing_acc"] == 0.75
    # A fifth of the target is spread: 0.9 on the true topic and 0.1 on the other.
    smooth = RoutingLoss(label_smoothing=0.2)(logits[:1], torch.tensor([1]))
    assert smooth["routing"].item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_routing_gradient_is_probability_less_target(smoothing: float) -> None:
    logits = normal(B, K)
    (found,) = torch.autograd.grad(RoutingLoss(2.0, smoothing)(logits, topics())["routing"], logits)
    target = functional.one_hot(topics(), K) * (1 - smoothing) + smoothing / K
    torch.testing.assert_close(found, 2.0 * (logits.softmax(dim=1) - target) / B)


def test_routing_with_weights_of_zero_only_is_zero() -> None:
    found = RoutingLoss()(normal(B, K), topics(), sample_weight=torch.zeros(B))
    assert found["routing"] == found["routing_acc"] == 0


# Entropy.


def test_entropy_worked_out_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25] * 4, [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    found = EntropyRegularization(2.0, 1.0, 10, weight=0.5)(weights, 4)
    entropy = (math.log(2) + math.log(4) + 0) / 3
    assert found["routing_entropy"].item() == pytest.approx(entropy)
    assert found["entropy_reg"].item() == pytest.approx(0.5 * (entropy - 1.6) ** 2)


def test_the_target_falls_in_a_straight_line_and_stays() -> None:
    loss = EntropyRegularization(num_subspaces=8)
    assert [loss.get_target_entropy(epoch) for epoch in (0, 5, 10, 20, 21, 500)] == pytest.approx(
        [math.log(8), 0.75 * math.log(8) + 0.025, 0.5 * math.log(8) + 0.05, 0.1, 0.1, 0.1]
    )
    assert loss.get_target_entropy(0.5) < loss.get_target_entropy(0)
    assert EntropyRegularization(2.0, 0.3, anneal_epochs=0).get_target_entropy(0) == 0.3
    assert EntropyRegularization(2.0, num_subspaces=8).get_target_entropy(0) == 2.0


def test_diversity_is_taught_early_and_confidence_late() -> None:
    logits = normal(B, K)
    loss = EntropyRegularization(entropy_low=0.0, anneal_epochs=10)

    def change(epoch: int) -> float:
        entropy = loss(logits.softmax(dim=1), epoch)
        (slope,) = torch.autograd.grad(entropy["entropy_reg"], logits)
        after = loss((logits - slope).softmax(dim=1), epoch)["routing_entropy"]
        return float(after - entropy["routing_entropy"])

    assert change(0) > 0
    assert change(10) < 0


def test_the_high_target_is_learnt_from_the_first_batch_and_is_kept_in_the_state() -> None:
    loss = EntropyRegularization()
    assert loss.num_subspaces is None
    with pytest.raises(ValueError, match="K is not known before the first batch; give num_subspaces or entropy_high"):
        loss.get_target_entropy(0)
    loss(simplex(), 0)
    assert loss.num_subspaces == K
    assert loss.get_target_entropy(0) == math.log(K)
    with pytest.raises(ValueError, match="over 5 subspaces; there are 4"):
        loss(torch.full((2, 5), 0.2), 0)
    state = {name: tensor.clone() for name, tensor in loss.half().state_dict().items()}  # a cast does not blur it
    for fresh in (EntropyRegularization(), EntropyRegularization(num_subspaces=K), copy.deepcopy(loss)):
        fresh.load_state_dict(state)
        assert fresh.get_target_entropy(0) == math.log(K)
        assert fresh.state_dict() == state


@pytest.mark.parametrize("assign", [True, False])
def test_a_state_of_before_the_first_batch_forgets_nothing(assign: bool) -> None:
    state = EntropyRegularization().state_dict()
    loss = EntropyRegularization(num_subspaces=K)
    loss.load_state_dict(state, assign=assign)
    assert loss.num_subspaces == loss.state_dict()["subspace_count"] == K
    assert state["subspace_count"] == 0


def test_weights_of_exactly_zero_keep_the_gradient_finite() -> None:
    sure = functional.one_hot(topics(), K).double().requires_grad_()
    found = EntropyRegularization(entropy_low=0.1, anneal_epochs=0)(sure, 0)
    assert found["routing_entropy"] == 0
    assert torch.autograd.grad(found["entropy_reg"], sure)[0].isfinite().all()


# Residual.


def test_residual_worked_out_by_hand() -> None:
    fine = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], requires_grad=True)  # lengths 5, 0.5 and 0
    found = ResidualPenalty(margin=2.0, weight=0.5)(fine)
    assert found["residual_penalty"].item() == pytest.approx(0.5 * 3 / 3)
    assert found["residual_norm_mean"].item() == pytest.approx(5.5 / 3)
    (gradient,) = torch.autograd.grad(found["residual_penalty"], fine)
    torch.testing.assert_close(gradient, torch.tensor([[0.1, 2 / 15], [0.0, 0.0], [0.0, 0.0]]))


def test_a_fine_part_of_zero_has_a_gradient_of_zero() -> None:
    fine = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(ResidualPenalty(margin=0.0)(fine)["residual_penalty"], fine)
    assert torch.equal(gradient, torch.zeros(2, 3))


# Disentanglement.


def test_disentanglement_is_the_covariance_off_the_diagonal() -> None:
    weights = simplex(7)
    covariance = torch.cov(weights.T)
    expected = 0.3 * covariance[~torch.eye(K, dtype=torch.bool)].square().sum() / K
    found = DisentanglementLoss(0.3)(weights)["disentanglement"]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, weights)[0] for value in (found, expected)))


def test_disentanglement_worked_out_by_hand() -> None:
    loss = DisentanglementLoss(1.0)
    # Two rows, two subspaces: deviations of +-1/2, Cov_01 = -1/2, twice its square by K = 2.
    assert loss(torch.eye(2))["disentanglement"] == 0.25
    rows = 4000
    even = loss(functional.one_hot(topics(rows), K).double())["disentanglement"]
    two = loss(functional.one_hot(topics(rows) % 2, K).double())["disentanglement"]
    assert even.item() == pytest.approx((K - 1) / K**4, rel=1e-3)
    assert two.item() == pytest.approx(1 / (8 * K), rel=1e-3)


def test_one_row_does_not_vary() -> None:
    weights = simplex(1)
    found = DisentanglementLoss()(weights)["disentanglement"]
    assert found == 0
    assert torch.equal(torch.autograd.grad(found, weights)[0], torch.zeros(1, K, dtype=torch.float64))


# Together.


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (lambda w: RoutingLoss(0.7, 0.1)(w, topics(), sample_weight=torch.arange(B))["routing"], normal(B, K)),
        (lambda w: EntropyRegularization(num_subspaces=K)(w, 3)["entropy_reg"], simplex()),
        (lambda f: ResidualPenalty(margin=1.5)(f)["residual_penalty"], normal(B, D)),
        (lambda w: DisentanglementLoss(2.0)(w)["disentanglement"], simplex()),
    ],
)
def test_gradient_is_that_of_finite_differences(loss: Callable[[Tensor], Tensor], given: Tensor) -> None:
    assert torch.autograd.gradcheck(loss, (given,))


def test_a_weight_counts_once_and_at_zero_nothing_is_done() -> None:
    logits, weights, fine = normal(B, K), simplex(), normal(B, D)
    calls: list[Callable[[float], dict[str, Tensor]]] = [
        lambda weight: RoutingLoss(weight)(logits, topics()),
        lambda weight: EntropyRegularization(weight=weight)(weights, 2),
        lambda weight: ResidualPenalty(weight=weight)(fine),
        lambda weight: DisentanglementLoss(weight)(weights),
    ]
    for call in calls:
        one, three = call(1.0), call(3.0)
        for name, value in one.items():
            torch.testing.assert_close(three[name], value * (3.0 if value.requires_grad else 1.0))
        assert sum(value.requires_grad for value in one.values()) == 1
        assert call(0.0) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RoutingLoss(-1.0), r"weight must not be negative, got -1\.0"),
        (lambda: RoutingLoss(math.nan), "weight must not be negative, got nan"),
        (lambda: RoutingLoss(label_smoothing=1.0), r"label_smoothing must be in \[0, 1\), got 1\.0"),
        (lambda: EntropyRegularization(entropy_low=-0.1), r"entropy_low must not be negative, got -0\.1"),
        (lambda: EntropyRegularization(anneal_epochs=-1), "anneal_epochs must not be negative, got -1"),
        (lambda: EntropyRegularization(weight=-1), "weight must not be negative, got -1"),
        (lambda: EntropyRegularization(eps=0), "eps must be positive, got 0"),
        (lambda: EntropyRegularization(0.1, 0.5), r"above the high target, got 0\.5 and 0\.1"),
        (lambda: EntropyRegularization(entropy_low=0.7, num_subspaces=2), r"high target, got 0\.7 and 0\.69"),
        (lambda: EntropyRegularization(num_subspaces=1), "at least 2 subspaces, got 1"),
        (lambda: EntropyRegularization(1.0).get_target_entropy(-1), "epoch must not be negative, got -1"),
        (lambda: ResidualPenalty(margin=-1), "margin must not be negative, got -1"),
        (lambda: ResidualPenalty(weight=-1), "weight must not be negative, got -1"),
        (lambda: DisentanglementLoss(-1), "weight must not be negative, got -1"),
        (lambda: DisentanglementLoss(eps=-1), "eps must not be negative, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RoutingLoss()(torch.zeros(2), topics(2)), r"at least 1 x 1, got \[2\]"),
        (lambda: RoutingLoss()(torch.zeros(0, 3), topics(0)), r"at least 1 x 1, got \[0, 3\]"),
        (lambda: RoutingLoss()(torch.zeros(2, 3), topics(4)), r"cluster ids \[4\] for routing logits \[2, 3\]"),
        (
            lambda: RoutingLoss()(torch.zeros(2, 3), topics(2), sample_weight=torch.ones(2, 1)),
            r"sample weights \[2, 1\] for routing logits \[2, 3\]",
        ),
        (lambda: EntropyRegularization()(torch.zeros(3), 0), r"routing weights must be a matrix .* got \[3\]"),
        (lambda: EntropyRegularization()(torch.ones(3, 1), 0), "at least 2 subspaces, got 1"),
        (lambda: EntropyRegularization()(torch.ones(3, 2), -1), "epoch must not be negative, got -1"),
        (lambda: ResidualPenalty()(torch.zeros(2, 3, 4)), r"fine vectors must be a matrix .* got \[2, 3, 4\]"),
        (lambda: DisentanglementLoss()(torch.zeros(3)), r"routing weights must be a matrix .* got \[3\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_documented_names_lead_here() -> None:
    for name in ("RoutingLoss", "EntropyRegularization", "ResidualPenalty", "DisentanglementLoss"):
        assert getattr(loss_names, name) is getattr(routing_losses, name)
