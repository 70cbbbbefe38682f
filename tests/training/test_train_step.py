from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss
from jasper_rag.models.ema_encoder import EMAEncoder, identity_encoder
from jasper_rag.training.health import TrainingDiverged
from jasper_rag.training.metric_sums import MetricSums
from jasper_rag.training.objective import Objective
from jasper_rag.training.train_step import TrainStep, half_precision
from jasper_rag.training.trainer_config import TrainingConfig

D, CPU = 4, torch.device("cpu")


class Model(nn.Module):
    """A linear map of the question; steering is added."""

    def __init__(self) -> None:
        super().__init__()
        self.map = identity_encoder(D)

    def forward(self, question: torch.Tensor, steering: torch.Tensor | None = None) -> torch.Tensor:
        mapped: torch.Tensor = self.map(question)
        return mapped if steering is None else mapped + steering


class Source:
    sources = None
    centroids = None


def batch(seed: int, rows: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    question, target = (torch.randn(rows, D, generator=generator) for _ in range(2))
    return {"question_emb": question, "target_source_emb": target, "steering_variant": torch.tensor([0, 0, 1, 3])}


def a_step(rate: float = 0.1, *, ema: bool = False, **config: Any) -> tuple[TrainStep, Model]:
    model, encoder = Model(), EMAEncoder(identity_encoder(D).requires_grad_(ema))
    parameters = [*model.parameters(), *(encoder.online_encoder.parameters() if ema else [])]
    optimizer = torch.optim.SGD(parameters, lr=rate)
    loss = JASPERMultiObjectiveLoss(1.0, 1.0 if ema else 0.0, 0.0, 0.0)
    objective = Objective(loss, encoder, Source())  # type: ignore[arg-type]
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    settings = TrainingConfig(**{"max_grad_norm": 0.0, **config})
    return TrainStep(model, encoder, objective, optimizer, schedule, settings, CPU), model


def test_one_step_is_gradient_descent_on_the_loss() -> None:
    step, model = a_step()
    given = batch(0)
    weight = torch.eye(D, requires_grad=True)
    loss = nn.functional.smooth_l1_loss(given["question_emb"] @ weight.T, given["target_source_emb"])
    (gradient,) = torch.autograd.grad(loss, weight)
    found = step([given], 0, 10)
    torch.testing.assert_close(model.map.weight.detach(), torch.eye(D) - 0.1 * gradient)
    assert found["total"] == pytest.approx(loss.item())
    assert not found["total"].requires_grad
    assert [float(found[f"steering_{name}"]) for name in ("zero", "centroid", "keyword", "residual")] == [
        0.5,
        0.25,
        0,
        0.25,
    ]
    # The rate is that of the step made, not of the next one.
    assert step.rate == 0.1
    assert step.optimizer.param_groups[0]["lr"] == 0.05


def test_steering_reaches_the_model() -> None:
    given = batch(0)
    plain, _ = a_step()[0].loss(given)
    steered, _ = a_step()[0].loss(given | {"steering": torch.ones(4, D)})
    assert plain != steered


def test_gradients_of_several_batches_are_averaged() -> None:
    step, model = a_step()
    found = step([batch(0), batch(1)], 0, 10)
    other, together = a_step()
    joint = {key: torch.cat([batch(0)[key], batch(1)[key]]) for key in batch(0)}
    wanted = other([joint], 0, 10)
    torch.testing.assert_close(model.map.weight, together.map.weight)
    assert found["total"] == pytest.approx(float(wanted["total"]))


def test_long_gradients_are_clipped() -> None:
    step, model = a_step(rate=1.0, max_grad_norm=0.01)
    found = step([batch(0)], 0, 10)
    assert found["grad_norm"] > 0.01
    assert float((model.map.weight.detach() - torch.eye(D)).norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_average_follows_what_the_optimiser_made() -> None:
    step, _ = a_step(ema=True)
    assert step.objective.target == "ema"
    step([batch(0)], 0, 10)
    online, target = (step.ema.state_dict()[f"{name}_encoder.weight"] for name in ("online", "target"))
    assert not torch.equal(online, torch.eye(D))
    torch.testing.assert_close(target, torch.eye(D).lerp(online, 1 - 0.996))
    momentum = step.figures(10, 10)
    assert momentum["tau"] == pytest.approx(0.999)
    assert momentum["ema_distance"] == pytest.approx(float((online - target).norm() / online.norm()), rel=1e-4)
    assert a_step()[0].figures(3, 10) == {}


def test_a_divergence_is_named_at_once() -> None:
    step, model = a_step(log_every_n_steps=50)
    sums = MetricSums()
    found = step([batch(0)], 0, 10)
    sums.add(found)
    step.stop_if_diverged(found, sums, 1)
    bad = {"total": torch.tensor(float("inf")), "jasper": torch.tensor(1.0), "vicreg": torch.tensor(float("nan"))}
    with pytest.raises(TrainingDiverged, match="step 2: vicreg not finite"):
        step.stop_if_diverged(bad, sums, 2)
    sums.add({"jasper": torch.tensor(float("nan"))})
    with pytest.raises(TrainingDiverged, match="step 50: jasper"):
        step.stop_if_diverged(found, sums, 50)
    step.require_finite_weights("epoch 0")
    model.map.weight.data[0, 0] = float("nan")
    with pytest.raises(TrainingDiverged, match="epoch 0: weights"):
        step.require_finite_weights("epoch 0")


def test_half_precision_is_for_gpus(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert half_precision(TrainingConfig(), CPU) is None
    with caplog.at_level(logging.INFO, "jasper_rag"):
        assert half_precision(TrainingConfig(mixed_precision=True), CPU) is None
    assert "float32" in caplog.text
    gpu = torch.device("cuda")
    for supported, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda found=supported: found)
        assert half_precision(TrainingConfig(mixed_precision=True), gpu) is expected
    assert half_precision(TrainingConfig(mixed_precision=True, precision="fp16"), gpu) is torch.float16
    assert half_precision(TrainingConfig(), gpu) is None
