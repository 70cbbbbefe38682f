from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import RAG_supporters.nn.losses.routing_losses as loss_names
from jasper_rag.losses.routing_losses import DisentanglementLoss, EntropyRegularization, ResidualPenalty, RoutingLoss
from jasper_rag.losses.routing_objective import RoutingObjective

B, K, D = 6, 4, 5
NAMES = {
    "routing",
    "routing_acc",
    "entropy_reg",
    "routing_entropy",
    "residual_penalty",
    "residual_norm_mean",
    "disentanglement",
}
LAMBDAS = ("lambda_routing", "lambda_entropy", "lambda_residual", "lambda_disentangle")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def topics(rows: int = B) -> Tensor:
    return torch.arange(rows) % K


def inputs(seed: int = 0) -> dict[str, Any]:
    logits = normal(B, K, seed=seed)
    return {
        "routing_logits": logits,
        "routing_weights": logits.softmax(dim=1),
        "fine_vector": normal(B, D, seed=seed + 1),
        "cluster_ids": topics(),
    }


def only(kept: str | None) -> dict[str, Any]:
    """Every weight 0 but one of 1."""
    return {name: float(name == kept) for name in LAMBDAS}


def test_the_objective_is_the_sum_with_every_lambda_once() -> None:
    batch = inputs()
    lambdas: dict[str, Any] = dict(zip(LAMBDAS, (1.0, 2.0, 3.0, 50.0), strict=True))
    total, numbers = RoutingObjective(**lambdas, routing_label_smoothing=0.1, residual_margin=0.5)(**batch, epoch=3)
    assert set(numbers) == NAMES
    assert not any(value.requires_grad for value in numbers.values())
    alone = (
        RoutingLoss(1.0, 0.1)(batch["routing_logits"], topics())
        | EntropyRegularization(weight=1.0)(batch["routing_weights"], 3)
        | ResidualPenalty(0.5, weight=1.0)(batch["fine_vector"])
        | DisentanglementLoss(1.0)(batch["routing_weights"])
    )
    assert numbers == {name: value.detach() for name, value in alone.items()}
    terms = ("routing", "entropy_reg", "residual_penalty", "disentanglement")
    expected = torch.stack([lambdas[key] * alone[name] for key, name in zip(LAMBDAS, terms, strict=True)]).sum()
    torch.testing.assert_close(total, expected)
    for given in (batch["routing_logits"], batch["fine_vector"]):
        mine, theirs = (torch.autograd.grad(value, given, retain_graph=True)[0] for value in (total, expected))
        torch.testing.assert_close(mine, theirs)
    weighted = RoutingObjective(**lambdas)(**batch, epoch=3, sample_weight=torch.arange(B))[1]
    sole = RoutingLoss()(batch["routing_logits"], topics(), sample_weight=torch.arange(B))
    assert weighted["routing"] == sole["routing"].detach()


@pytest.mark.parametrize("kept", [*LAMBDAS, None])
def test_a_term_of_weight_zero_is_not_computed(kept: str | None) -> None:
    names = {
        "lambda_routing": {"routing", "routing_acc"},
        "lambda_entropy": {"entropy_reg", "routing_entropy"},
        "lambda_residual": {"residual_penalty", "residual_norm_mean"},
        "lambda_disentangle": {"disentanglement"},
        None: set(),
    }
    objective = RoutingObjective(**only(kept))
    total, numbers = objective(**inputs(), epoch=0)
    assert set(numbers) == names[kept]
    assert total.requires_grad == (kept is not None)
    assert kept is not None or total == 0


class Router(nn.Module):
    """Topic logits and a fine part, each by a map of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.topics, self.fine = nn.Linear(D, K), nn.Linear(D, D)

    def forward(self, questions: Tensor) -> dict[str, Tensor]:
        logits = self.topics(questions)
        weights = logits.softmax(dim=1)
        return {"routing_logits": logits, "routing_weights": weights, "fine_vector": self.fine(questions)}


@pytest.mark.parametrize("kept", LAMBDAS)
def test_each_term_changes_the_parameters_it_should_and_no_others(kept: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Router()
    before = copy.deepcopy(model.state_dict())
    objective = RoutingObjective(**only(kept), residual_margin=0.1)
    questions, values = normal(B, D).detach().float(), []
    for _ in range(5):
        model.zero_grad()
        total, _ = objective(**model(questions), cluster_ids=topics(), epoch=20)
        torch.autograd.backward(total)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad)
        values.append(total.item())
    assert values[-1] < values[0]
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"fine" if kept == "lambda_residual" else "topics"}


def test_autocast_and_half_precision_leave_the_losses_in_full_precision() -> None:
    batch = {name: value.detach() for name, value in inputs().items()}
    batch = {name: value.bfloat16() if value.is_floating_point() else value for name, value in batch.items()}
    wide = {name: value.float() if value.is_floating_point() else value for name, value in batch.items()}
    objective = RoutingObjective(1.0, 1.0, 1.0, 1.0)
    expected, _ = objective(**wide, epoch=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(objective(**wide, epoch=0)[0], expected)
        found, numbers = objective(**batch, epoch=0)
    assert torch.equal(found, expected)
    assert all(value.dtype == torch.float32 for value in numbers.values())


@pytest.mark.slow
def test_no_value_is_read_from_the_device() -> None:
    # Fake tensors have no values: reading one raises.
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        leaf = mode.from_tensor(normal(B, K))
        batch: dict[str, Tensor] = {name: mode.from_tensor(value.detach()) for name, value in inputs().items()}
        batch |= {"routing_logits": leaf, "routing_weights": leaf.softmax(dim=1)}
        total, _ = RoutingObjective()(**batch, epoch=1, sample_weight=batch["fine_vector"][:, 0])
        torch.autograd.backward(total)
        with pytest.raises(DataDependentOutputException):
            total.item()
    assert leaf.grad is not None


def learnt(rank: int, count: int) -> Tensor:
    """Total and gradients of this rank's part of the joint batch; with one row each nothing varies within a rank."""
    matrix, questions = normal(D, K + D, seed=1), normal(B, D).detach()
    part = slice(rank * B // count, (rank + 1) * B // count)
    logits, fine = questions[part] @ matrix[:, :K], questions[part] @ matrix[:, K:]
    weight = torch.rand(B, generator=torch.Generator().manual_seed(2), dtype=torch.float64)[part]
    objective = RoutingObjective(1.0, 1.0, 1.0, 10.0, routing_label_smoothing=0.1)
    total, _ = objective(logits, logits.softmax(dim=1), fine, topics()[part], 5, sample_weight=weight)
    (gradient,) = torch.autograd.grad(total, matrix)
    return torch.cat([total.detach().reshape(1), gradient.flatten()])


@pytest.mark.parametrize("count", [2, B])
def test_ranks_learn_what_one_process_would(
    count: int, in_threads: Callable[[int, Callable[[int], Any]], list[Any]]
) -> None:
    expected = learnt(0, 1)
    found = in_threads(count, lambda rank: learnt(rank, count))
    torch.testing.assert_close(torch.stack(found).mean(dim=0), expected)


def test_a_state_of_another_k_is_refused() -> None:
    objective = RoutingObjective(num_subspaces=K)
    state = RoutingObjective(num_subspaces=7).state_dict()
    with pytest.raises(RuntimeError, match=r"entropy\.subspace_count: routing weights over 7 subspaces; there are 4"):
        objective.load_state_dict(state)
    assert objective.entropy.num_subspaces == objective.state_dict()["entropy.subspace_count"] == K
    with pytest.raises(RuntimeError, match="Missing key"):
        objective.load_state_dict({})


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="lambda_entropy must not be negative, got -2"):
        RoutingObjective(lambda_entropy=-2)
    with pytest.raises(ValueError, match="margin must not be negative, got -2"):
        RoutingObjective(residual_margin=-2)
    with pytest.raises(ValueError, match=r"routing weights \[6, 2\] for routing logits \[6, 4\]"):
        RoutingObjective()(**inputs() | {"routing_weights": torch.zeros(B, 2)}, epoch=0)
    with pytest.raises(ValueError, match=r"fine vectors \[3, 5\] for routing logits \[6, 4\]"):
        RoutingObjective()(**inputs() | {"fine_vector": torch.zeros(3, D)}, epoch=0)
    assert loss_names.RoutingObjective is RoutingObjective
