from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.text.pair_files import TrainingExample
from jasper_rag.training.encoder_batches import pair_table
from jasper_rag.training.encoder_config import EncoderTrainingConfig
from jasper_rag.training.encoder_features import LiveFeatures
from jasper_rag.training.encoder_step import EncoderStep, build_objective, build_schedule, precision

TABLE = pair_table([TrainingExample("car", "automobile and ship"), TrainingExample("doctor", "physician and road")])


def step_of(base: Path, steps: int = 20, **settings: object) -> EncoderStep:
    config = EncoderTrainingConfig.model_validate(settings).resolved()
    model = GaussianEmbeddingGemma(
        16, str(base), freeze_base=config.freeze_base, use_predictor=config.use_predictor, device="cpu"
    )
    return EncoderStep(model, build_objective(config, 16), TABLE, config, steps)


def rates(step: EncoderStep, base: Path, count: int) -> list[dict[str, float]]:
    """The rates that `count` real steps are made with."""
    source = LiveFeatures(step.model, TABLE, 2)
    found = []
    for batch in source.batches([np.arange(2)] * count):
        step(batch)
        found.append(step.rates)
    return found


@pytest.mark.slow
def test_the_rate_goes_by_optimiser_steps(tiny_bert: Path) -> None:
    step = step_of(tiny_bert, warmup_steps=4, learning_rate=1e-3)
    found = [rate["projection"] for rate in rates(step, tiny_bert, 20)]
    assert found[0] == pytest.approx(2.5e-4)  # step 0
    assert found[:4] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert found[4] == pytest.approx(1e-3)  # the warm-up is over
    assert found[12] == pytest.approx(5e-4)  # half of the cosine
    assert found[19] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 15 / 16)) / 2)
    assert step.optimizer.param_groups[0]["lr"] == 0  # after the end


def test_a_run_without_warm_up_starts_at_the_peak() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    build_schedule(optimizer, 0, 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.slow
def test_every_part_has_its_own_rate(tiny_bert: Path) -> None:
    step = step_of(tiny_bert, warmup_steps=0, base_learning_rate=1e-5, projection_learning_rate=5e-4)
    assert rates(step, tiny_bert, 1) == [{"base": pytest.approx(1e-5), "projection": pytest.approx(5e-4)}]


@pytest.mark.slow
def test_the_head_over_a_frozen_base_learns_at_the_rate_asked_for(tiny_bert: Path) -> None:
    step = step_of(tiny_bert, freeze_base=True, projection_learning_rate=5e-4, warmup_steps=0)
    before = step.model.projection.out.weight.detach().clone()
    weights = {name: value.clone() for name, value in step.model.base.state_dict().items()}
    assert rates(step, tiny_bert, 1) == [{"projection": pytest.approx(5e-4)}]
    # AdamW's first step is as long as the rate.
    moved = (step.model.projection.out.weight.detach() - before).abs().max()
    assert float(moved) == pytest.approx(5e-4, rel=0.02)
    assert all(torch.equal(value, weights[name]) for name, value in step.model.base.state_dict().items())


@pytest.mark.slow
def test_a_loss_of_no_gradient_leaves_long_ones_clipped(tiny_bert: Path) -> None:
    step = step_of(tiny_bert, max_grad_norm=1e-3, temperature=0.01)
    (batch,) = LiveFeatures(step.model, TABLE, 2).batches([np.arange(2)])
    step(batch)
    norms = [parameter.grad.norm() for parameter in step.model.parameters() if parameter.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.slow
def test_without_a_stop_gradient_documents_are_moved_by_the_prediction(tiny_bert: Path) -> None:
    totals, found = [], []
    for stopgrad in (True, False):
        step = step_of(
            tiny_bert,
            use_predictor=True,
            lambda_predictive=1.0,
            lambda_contrastive=0.0,
            lambda_isotropy=0.0,
            lambda_reg=0.0,
            stopgrad=stopgrad,
        )
        queries, positives = torch.randn(2, 2, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        total, terms = step.loss(TABLE, np.arange(2), queries, positives, None)
        totals.append(total.item())
        assert terms["predictive"].item() == pytest.approx(total.item())
        (gradient,) = torch.autograd.grad(total, positives, allow_unused=True)
        found.append(gradient is not None and bool(gradient.any()))
    assert totals[0] == pytest.approx(totals[1])
    assert found == [False, True]


def test_half_precision_is_for_gpus() -> None:
    assert precision(True, torch.device("cpu")) is None
    assert precision(False, torch.device("cuda")) is None
