"""Runs of the subspace model: what learns, what is measured, what a resumed run ends as."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.training.objective import Objective
from jasper_rag.training.subspace_config import SubspaceRunConfig
from jasper_rag.training.subspace_objective import SubspaceObjective
from jasper_rag.training.subspace_run import routing_accuracy
from jasper_rag.training.training_run import TrainingRun

Prepare = Callable[..., TrainingRun]

ROUTING = ("lambda_routing", "lambda_entropy", "lambda_residual", "lambda_disentangle")
BASE = ("lambda_jasper", "lambda_contrastive", "lambda_centroid", "lambda_vicreg")
NUMBERS = (
    *("routing", "routing_acc", "entropy_reg", "routing_entropy"),
    *("residual_penalty", "residual_norm_mean", "disentanglement"),
)


def subspace(run: TrainingRun) -> SubspacePredictor:
    assert isinstance(run.trainer.model, SubspacePredictor)
    return run.trainer.model


def objective(run: TrainingRun) -> SubspaceObjective:
    made = run.trainer._step.objective
    assert isinstance(made, SubspaceObjective)
    return made


def router_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in subspace(run).router.state_dict().items()}


def rest_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    found = run.trainer.model.state_dict().items()
    return {name: value.clone() for name, value in found if ".router." not in name}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_the_router_learns_and_its_figures_are_kept(routed: Prepare, tmp_path: Path) -> None:
    alone = {
        "router__anchor_epochs": 5,
        "router__hidden_dim": 32,
        "router__cosine_logits": False,
        "routing_loss__lambda_entropy": 0.001,
        "steering__probabilities": {"zero": 1.0},
        "steering__curriculum": {"mode": "none"},
    }
    run = routed(tmp_path, training__num_epochs=5, training__learning_rate=0.02, **alone)
    before = routing_accuracy(run.trainer.model, run.datasets["train"])
    rows = run.trainer.fit()
    after = routing_accuracy(run.trainer.model, run.datasets["train"])
    assert after["accuracy@1"] > before["accuracy@1"] + 0.1
    assert after["nearest_centroid@1"] == before["nearest_centroid@1"]
    assert rows[-1]["train/routing"] < rows[0]["train/routing"]
    for name in NUMBERS:
        assert {f"train/{name}", f"val/{name}"} <= set(rows[-1])
    assert {"val/routing_acc@3", "val/routing_acc_steered"} <= set(rows[-1])
    # The question alone: one question a pair, so the val figure is that of the split.
    assert rows[-1]["val/routing_acc"] == pytest.approx(
        routing_accuracy(run.trainer.model, run.datasets["val"])["accuracy@1"]
    )
    assert rows[-1]["val/routing_acc@3"] == 1  # of three clusters


@pytest.mark.slow
def test_subspaces_are_the_datasets(routed: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = routed(tmp_path, router__num_subspaces=8)
    assert isinstance(run.config, SubspaceRunConfig)
    assert (run.config.router.num_subspaces, subspace(run).num_subspaces) == (3, 3)
    assert "router.num_subspaces is 8 in the settings, 3 in the dataset; 3 is used" in caplog.text
    assert torch.linalg.vector_norm(subspace(run).centroids, dim=1).numpy() == pytest.approx(1.0, abs=1e-6)
    caplog.clear()
    routed(tmp_path)
    assert "num_subspaces" not in caplog.text


@pytest.mark.slow
def test_untrained_it_ranks_as_the_question(routed: Prepare, tmp_path: Path) -> None:
    found = routed(tmp_path).measure("test")
    assert found["ndcg@10"] == pytest.approx(found["ndcg@10_question"])


@pytest.mark.slow
def test_one_total_in_training_and_validation(routed: Prepare, tmp_path: Path) -> None:
    """Each weight counts once, and the routing losses are part of both sums."""
    weights = dict(zip(ROUTING, (0.7, 0.3, 0.2, 5.0), strict=True))
    settings = {f"routing_loss__{name}": value for name, value in weights.items()}
    run = routed(tmp_path, training__num_epochs=1, routing_loss__residual_margin=0.2, **settings)
    (row,) = run.trainer.fit()
    base = run.config.loss.weights_at(0)
    for split in ("train", "val"):
        expected = sum(base[f"lambda_{name}"] * row[f"{split}/{name}"] for name in ("jasper", "contrastive"))
        expected += sum(base[f"lambda_{name}"] * row[f"{split}/{name}"] for name in ("centroid", "vicreg"))
        parts = ("routing", "entropy_reg", "residual_penalty", "disentanglement")
        shares = [weights[name] * row[f"{split}/{part}"] for name, part in zip(ROUTING, parts, strict=True)]
        assert min(shares) > 0
        assert row[f"{split}/total"] == pytest.approx(expected + sum(shares), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ROUTING)
def test_each_routing_loss_moves_the_router(routed: Prepare, tmp_path: Path, kept: str) -> None:
    off = {f"routing_loss__{name}": 0.0 for name in ROUTING if name != kept}
    run = routed(tmp_path, **off, **{f"routing_loss__{kept}": 1.0}, routing_loss__residual_margin=0.1)
    batch = next(iter(run.trainer._source.epoch(0)))
    made, model = objective(run), subspace(run)
    found = made.asked(model)(batch["question_emb"], batch["steering"])
    routing = made(found, batch)[0] - Objective.__call__(made, found.prediction, batch)[0]
    torch.autograd.backward(routing)
    gradients = [parameter.grad for parameter in model.router.parameters() if parameter.grad is not None]
    assert any(bool(gradient.any()) for gradient in gradients)
    assert float(routing.detach()) > 0


@pytest.mark.slow
def test_the_temperature_follows_the_steps(routed: Prepare, tmp_path: Path) -> None:
    run = routed(tmp_path)
    rows = run.trainer.fit()
    steps = run.trainer.global_step
    assert steps == 10
    assert rows[0]["train/router_temperature"] == pytest.approx(0.55)  # half of a cosine from 1 to .1
    assert rows[1]["train/router_temperature"] == pytest.approx(0.1)
    last = 0.1 + 0.9 * (1 + math.cos(math.pi * 9 / 10)) / 2
    assert subspace(run).router.temperature == pytest.approx(last)


@pytest.mark.slow
def test_a_frozen_router_stays_bit_for_bit(routed: Prepare, tmp_path: Path) -> None:
    run = routed(tmp_path, router__freeze_router=True)
    router, rest = router_of(run), rest_of(run)
    run.trainer.fit()
    assert same(router_of(run), router)
    assert not same(rest_of(run), rest)


@pytest.mark.slow
def test_anchors_first(routed: Prepare, tmp_path: Path) -> None:
    run = routed(tmp_path, router__anchor_epochs=1, router__freeze_router=True)
    start, rest = router_of(run), rest_of(run)
    rows = run.trainer.fit(1)
    anchored = router_of(run)
    assert not same(anchored, start)
    assert same(rest_of(run), rest)
    # The base losses are part of the sum all the same.
    assert rows[0]["train/total"] > rows[0]["train/routing"] + 0.5 * rows[0]["train/contrastive"]
    run.trainer.fit(2)
    assert same(router_of(run), anchored)
    assert not same(rest_of(run), rest)


@pytest.mark.slow
def test_only_routing_losses_teach_the_anchors(routed: Prepare, tmp_path: Path) -> None:
    """Without a residual path the base losses would reach the router; in the first stage they do not."""
    routers = []
    for weight in (0.5, 50.0):
        settings = {"router__anchor_epochs": 1, "model__residual": False, "training__max_grad_norm": 0.0}
        run = routed(tmp_path / str(weight), loss__lambda_contrastive=weight, **settings)
        run.trainer.fit(1)
        routers.append(router_of(run))
    assert same(*routers)


@pytest.mark.slow
def test_every_epoch_is_told(routed: Prepare, tmp_path: Path) -> None:
    run = routed(tmp_path)
    seen: list[tuple[int, bool]] = []
    run.trainer.after_epoch = lambda epoch, model: seen.append((epoch, model is run.trainer.model))
    run.trainer.fit()
    assert seen == [(0, True), (1, True)]


@pytest.mark.slow
def test_compiled_it_is_the_decomposition(routed: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compile_(asked: Any) -> Any:
        compiled.append(asked)
        return asked

    monkeypatch.setattr(torch, "compile", compile_)
    run = routed(tmp_path, training__compile=True)
    assert compiled == [subspace(run).decompose]
    assert "train/routing" in run.trainer.fit(1)[-1]


@pytest.mark.slow
def test_falling_temperatures_are_compiled_once(routed: Prepare, tmp_path: Path) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    model = subspace(routed(tmp_path))
    asked = torch.compile(model.decompose, backend=backend)
    questions = torch.eye(8)
    for step in range(20):
        model.router.temperature = model.router.temperature_at(step, 20)
        asked(questions, questions)
    assert len(graphs) <= 2  # the second one takes any temperature
    torch.compiler.reset()


def test_one_cluster_is_too_few(routed: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JASPERSteeringDataset, "centroid_embs", torch.ones(1, 8))
    with pytest.raises(InputError, match="single cluster"):
        routed(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_plain_checkpoint_is_refused(prepared: Prepare, routed: Prepare, tmp_path: Path) -> None:
    prepared(tmp_path / "plain", training__num_epochs=1).trainer.fit()
    run = routed(tmp_path / "routed")
    with pytest.raises(InputError, match="does not fit this model"):
        run.trainer.load_checkpoint(tmp_path / "plain" / "checkpoints" / "final.pt")
