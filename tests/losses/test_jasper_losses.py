from __future__ import annotations

import copy
import math
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional

import RAG_supporters.nn as nn_names
import RAG_supporters.nn.losses.jasper_losses as loss_names
from jasper_rag.losses import jasper_losses
from jasper_rag.losses.jasper_losses import CentroidLoss, JASPERLoss, JASPERMultiObjectiveLoss
from jasper_rag.losses.loss_config import LossConfig

B, D, K, C, M = 6, 5, 3, 4, 23
NAMES = {"total", "jasper", "contrastive", "centroid", "centroid_acc", "vicreg", "vicreg_v", "vicreg_i", "vicreg_c"}


def inputs(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows = torch.randint(M, (B,), generator=generator)
    return {
        "predicted": normal(B, D).requires_grad_(),
        "ema_target": normal(B, D),
        "negatives": normal(B, K, D),
        "centroid_embs": normal(C, D),
        "cluster_ids": torch.randint(C, (B,), generator=generator),
        "weight": torch.rand(B, generator=generator, dtype=torch.float64) + 0.1,
        "target_rows": rows,
        "known_positives": torch.stack([rows, torch.full((B,), -1)], dim=1),
        "sources": normal(M, D),
    }


def slope(value: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return torch.autograd.grad(value, batch["predicted"])[0]


def weighted(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_smooth_l1(beta: float, reduction: Any) -> None:
    batch = inputs()
    predicted, target, weight = batch["predicted"], batch["ema_target"], batch["weight"]
    loss = JASPERLoss(beta, reduction)
    each = (predicted - target).abs()
    each = torch.where(each < beta, each.square() / (2 * beta), each - beta / 2) if beta else each
    torch.testing.assert_close(loss(predicted, target)["jasper"], getattr(each, reduction)())
    expected = weighted(each.mean(1), weight) if reduction == "mean" else (each * weight[:, None]).sum()
    found = loss(predicted, target, weight=weight)["jasper"]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slope(found, batch), slope(expected, batch))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_centroid_is_cross_entropy_of_cosines(temperature: float) -> None:
    batch = inputs()
    predicted, centroids, ids = batch["predicted"], batch["centroid_embs"].requires_grad_(), batch["cluster_ids"]
    cosines = functional.cosine_similarity(predicted[:, None], centroids[None], dim=2)
    loss = CentroidLoss(temperature)
    plain, heavy = loss(predicted, centroids, ids), loss(predicted, centroids, ids, weight=batch["weight"])
    right = (cosines.argmax(1) == ids).double()
    torch.testing.assert_close(plain["centroid"], functional.cross_entropy(cosines / temperature, ids))
    torch.testing.assert_close(plain["centroid_acc"], right.mean())
    each = functional.cross_entropy(cosines / temperature, ids, reduction="none")
    torch.testing.assert_close(heavy["centroid"], weighted(each, batch["weight"]))
    torch.testing.assert_close(heavy["centroid_acc"], weighted(right, batch["weight"]))
    assert not plain["centroid_acc"].requires_grad
    assert torch.autograd.gradcheck(lambda p, c: loss(p, c, ids)["centroid"], (predicted, centroids))


def test_centroid_at_a_prediction_of_zero_length_is_chance() -> None:
    predicted = torch.zeros(2, D, requires_grad=True)
    found = CentroidLoss()(predicted, torch.randn(C, D), torch.tensor([0, 1]))["centroid"]
    assert found.item() == pytest.approx(math.log(C))
    assert torch.autograd.grad(found, predicted)[0].isfinite().all()


@pytest.mark.parametrize("with_sources", [True, False])
def test_total_is_the_weighted_sum(with_sources: bool) -> None:
    batch = inputs()
    if not with_sources:
        del batch["sources"]
    loss = JASPERMultiObjectiveLoss(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 4.0, 3.0, 2.0)
    total, numbers = loss(**batch)
    assert set(numbers) == NAMES
    assert numbers["total"] is total
    assert [name for name, value in numbers.items() if value.requires_grad] == ["total"]
    assert all(value.shape == () for value in numbers.values())
    rows = {name: batch[name] for name in ("target_rows", "known_positives", "sources", "weight") if name in batch}
    predicted, target, weight = batch["predicted"], batch["ema_target"], batch["weight"]
    alone = {
        "jasper": jasper_losses.JASPERLoss(0.5)(predicted, target, weight=weight),
        "contrastive": jasper_losses.ContrastiveLoss(0.4)(predicted, target, batch["negatives"], **rows),
        "centroid": CentroidLoss(0.3)(predicted, batch["centroid_embs"], batch["cluster_ids"], weight=weight),
        "vicreg": jasper_losses.VICRegLoss(4.0, 3.0, 2.0)(predicted, target),
    }
    for found in alone.values():
        for name, value in found.items():
            torch.testing.assert_close(numbers[name], value.detach())
    factors = dict(zip(alone, (0.9, 0.8, 0.7, 0.6), strict=True))
    expected = sum((factors[name] * alone[name][name] for name in alone), torch.zeros(()))
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(slope(total, batch), slope(expected, batch))


def test_documented_defaults() -> None:
    loss = JASPERMultiObjectiveLoss()
    assert list(loss.weights.values()) == [1.0, 0.5, 0.1, 0.1]
    assert (loss.jasper.beta, loss.contrastive.temperature, loss.centroid.temperature) == (1.0, 0.07, 0.1)
    assert (loss.vicreg.lambda_v, loss.vicreg.lambda_i, loss.vicreg.lambda_c) == (25.0, 25.0, 1.0)
    with pytest.raises(TypeError, match="lambda_jaspr"):
        JASPERMultiObjectiveLoss(lambda_jaspr=1.0)  # type: ignore[call-arg]


def test_positional_call_of_the_documented_signature() -> None:
    batch = inputs()
    names = ("predicted", "ema_target", "negatives", "centroid_embs", "cluster_ids")
    total, numbers = JASPERMultiObjectiveLoss()(*(batch[name] for name in names))
    assert set(numbers) == NAMES
    assert total.requires_grad


@pytest.mark.parametrize("term", ["jasper", "contrastive", "centroid", "vicreg"])
def test_a_term_of_weight_zero_is_never_called(term: str) -> None:
    loss = JASPERMultiObjectiveLoss()
    loss.set_weights({f"lambda_{term}": 0.0})
    with mock.patch.object(getattr(loss, term), "forward", side_effect=AssertionError("called")):
        _, numbers = loss(**inputs())
    assert not any(name.startswith(term) for name in numbers)
    assert len(numbers) == len(NAMES) - sum(name.startswith(term) for name in NAMES)


def test_inputs_of_terms_of_weight_zero_are_not_needed() -> None:
    batch = inputs()
    loss = JASPERMultiObjectiveLoss(1.0, 0.0, 0.0, 0.0)
    total, numbers = loss(batch["predicted"], batch["ema_target"])
    assert set(numbers) == {"total", "jasper"}
    torch.testing.assert_close(total, functional.smooth_l1_loss(batch["predicted"], batch["ema_target"]))


@pytest.mark.parametrize("missing", ["centroid_embs", "cluster_ids"])
def test_a_missing_input_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=rf"lambda_centroid is 0.1, which needs {missing}"):
        JASPERMultiObjectiveLoss()(**inputs() | {missing: None})


def test_missing_target_rows_and_negatives_are_named() -> None:
    with pytest.raises(ValueError, match="needs target_rows"):
        JASPERMultiObjectiveLoss()(**inputs() | {"target_rows": None})
    with pytest.raises(ValueError, match="needs negatives"):
        JASPERMultiObjectiveLoss(in_batch=False)(**inputs() | {"sources": None, "negatives": None})


def test_contrastive_aims_at_its_own_target() -> None:
    batch = inputs()
    other = torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(9)).requires_grad_()
    del batch["sources"]
    total, numbers = JASPERMultiObjectiveLoss()(**batch, contrastive_target=other)
    assert torch.autograd.grad(total, other)[0].any()
    _, expected = JASPERMultiObjectiveLoss()(**batch | {"ema_target": other.detach()})
    torch.testing.assert_close(numbers["contrastive"], expected["contrastive"])
    assert numbers["jasper"] != expected["jasper"]


def test_weights_change_between_epochs() -> None:
    batch, loss = inputs(), JASPERMultiObjectiveLoss(1.0, 0.0, 0.0, 0.0)
    loss.lambda_contrastive = 0.5
    assert set(loss(**batch)[1]) == {"total", "jasper", "contrastive"}
    loss.set_weights({"lambda_jasper": 0.0, "lambda_vicreg": 0.1})
    assert set(loss(**batch)[1]) == {"total", "contrastive", "vicreg", "vicreg_v", "vicreg_i", "vicreg_c"}
    with pytest.raises(TypeError):
        loss.weights["lambda_vicreg"] = 1.0  # type: ignore[index]
    with pytest.raises(ValueError, match="no weight 'lambda_x'; there are lambda_jasper, "):
        loss.set_weights({"lambda_x": 1.0})
    with pytest.raises(ValueError, match="lambda_jasper must not be negative, got -1"):
        loss.set_weights({"lambda_vicreg": 7.0, "lambda_jasper": -1.0})
    assert loss.lambda_vicreg == 0.1
    loss.set_weights(dict.fromkeys(loss.weights, 0.0))
    with pytest.raises(ValueError, match="every weight of the loss is 0"):
        loss(**batch)


def test_from_config() -> None:
    config = LossConfig.model_validate(
        {
            "lambda_jasper": 0.0,
            "jasper_beta": 0.5,
            "contrastive_temperature": 0.2,
            "vicreg_lambda_c": 3.0,
            "vicreg_scale": False,
            "negatives": "hard",
            "stages": [{"from_epoch": 0, "lambda_jasper": 2.0}, {"from_epoch": 3, "lambda_jasper": 4.0}],
        }
    )
    loss = JASPERMultiObjectiveLoss.from_config(config)
    assert loss.weights == config.weights_at(0)
    assert loss.lambda_jasper == 2.0
    assert (loss.jasper.beta, loss.contrastive.temperature, loss.vicreg.lambda_c) == (0.5, 0.2, 3.0)
    assert (loss.contrastive.in_batch, loss.vicreg.scale) == (False, False)
    loss.set_weights(config.weights_at(3))
    assert loss.lambda_jasper == 4.0
    assert JASPERMultiObjectiveLoss.from_config(LossConfig()).contrastive.in_batch


def test_rows_of_weight_zero_do_not_count() -> None:
    batch = inputs()
    batch["weight"][:2] = 0
    loss = JASPERMultiObjectiveLoss(lambda_vicreg=0.0)
    slopes = slope(loss(**batch)[0], batch)
    assert not slopes[:2].any()
    assert slopes[2:].any(dim=1).all()
    batch["weight"][:] = 0
    assert loss(**batch)[0] == 0


def test_autocast_leaves_the_losses_in_full_precision() -> None:
    batch = {name: value.detach().float() if value.is_floating_point() else value for name, value in inputs().items()}
    expected, _ = JASPERMultiObjectiveLoss()(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = JASPERMultiObjectiveLoss()(**batch)
    assert torch.equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("with_sources", [True, False])
def test_no_value_is_read_from_the_device(with_sources: bool) -> None:
    # Fake tensors have no values: reading one raises.
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        batch: dict[str, Tensor] = {name: mode.from_tensor(value) for name, value in inputs().items()}
        # Frozen ones are looked at once on a CPU, and only there.
        for name in ("centroid_embs", "sources"):
            batch[name].requires_grad_()
        batch |= {"negative_rows": torch.zeros(B, K, dtype=torch.int64)}
        if not with_sources:
            del batch["sources"]
        total, _ = JASPERMultiObjectiveLoss()(**batch)
        torch.autograd.backward(total)
        with pytest.raises(DataDependentOutputException):
            total.item()
    assert batch["predicted"].grad is not None


def test_a_copy_is_the_same_loss() -> None:
    loss, batch = JASPERMultiObjectiveLoss(), inputs()
    first, _ = loss(**batch)
    assert torch.equal(copy.deepcopy(loss)(**batch)[0], first)
    assert loss.state_dict() == {}


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_temperatures_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        CentroidLoss(temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        JASPERMultiObjectiveLoss(contrastive_temperature=temperature)


def test_other_bad_arguments() -> None:
    with pytest.raises(ValueError, match="beta must not be negative, got -1"):
        JASPERLoss(-1)
    with pytest.raises(ValueError, match="reduction must be"):
        JASPERLoss(reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lambda_centroid must not be negative"):
        JASPERMultiObjectiveLoss(lambda_centroid=-0.1)
    with pytest.raises(ValueError, match=r"predictions \[2, 3\] for targets \[3, 3\]"):
        JASPERLoss()(torch.zeros(2, 3), torch.zeros(3, 3))


def test_the_plans_names() -> None:
    assert jasper_losses.JEPALoss is JASPERLoss
    assert jasper_losses.JEPAMultiObjectiveLoss is JASPERMultiObjectiveLoss
    for module in (nn_names, loss_names):
        assert module.JEPAMultiObjectiveLoss is JASPERMultiObjectiveLoss
        assert module.JASPERLoss is JASPERLoss
