from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss
from jasper_rag.models.ema_encoder import EMAEncoder, identity_encoder
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.training.checkpointing import read_checkpoint
from jasper_rag.training.jasper_trainer import JASPERTrainer
from jasper_rag.training.monitoring import TrainingMonitor
from jasper_rag.training.train_step import TrainStep

WIDTH, CLUSTERS, NEGATIVES = 8, 3, 2


class Killed(Exception):
    """The process is gone."""


def same(one: Any, other: Any) -> bool:
    """Bit for bit, but for the time that epochs took."""
    if isinstance(one, Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, Mapping):
        keys = set(one) - {"epoch_time_s", "checkpoint_dir"}
        return keys == set(other) - {"epoch_time_s", "checkpoint_dir"} and all(same(one[k], other[k]) for k in keys)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "epoch_time_s"} for row in history]


def newest(folder: Path) -> Path:
    """The checkpoint with the most steps."""
    return max(sorted(folder.glob("*.pt")), key=lambda path: read_checkpoint(path)["global_step"])


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`dying(k)`: the k-th step, counted from 1, is never finished."""
    original, left = TrainStep.__call__, {"steps": math.inf}

    def step(self: TrainStep, *arguments: Any) -> dict[str, Tensor]:
        left["steps"] -= 1
        if left["steps"] == 0:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(TrainStep, "__call__", step)

    def at(count: float) -> None:
        left["steps"] = count

    return at


def some_slow(steps: range, quick: set[int]) -> list[Any]:
    """Every step; of a default run, the quick ones."""
    return [pytest.param(step, marks=[] if step in quick else pytest.mark.slow) for step in steps]


class Batches(Dataset[dict[str, Tensor]]):
    """A mock dataset: samples as the documents have them, with centroids, without epochs."""

    def __init__(self, count: int = 24, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.questions = torch.randn(count, WIDTH, generator=generator)
        self.targets = torch.randn(count, WIDTH, generator=generator)
        self.negatives = torch.randn(count, NEGATIVES, WIDTH, generator=generator)
        self.clusters = torch.randint(CLUSTERS, (count,), generator=generator)
        self.centroid_embs = torch.randn(CLUSTERS, WIDTH, generator=generator)

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {
            "question_emb": self.questions[row],
            "target_source_emb": self.targets[row],
            "steering": torch.zeros(WIDTH),
            "negative_embs": self.negatives[row],
            "cluster_id": self.clusters[row],
            "relevance": torch.tensor(1.0),
        }


def documented(tmp_path: Path, *, loaders: Any = None, loss: Any = None, **config: Any) -> JASPERTrainer:
    """A trainer as the documents construct it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = JASPERPredictor({"embedding_dim": WIDTH, "hidden_dim": 8, "num_layers": 2, "dropout": 0.2})
    ema = EMAEncoder(identity_encoder(WIDTH))
    parameters = [*model.parameters(), *ema.online_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    if loaders is None:
        loaders = DataLoader(Batches(), batch_size=4, shuffle=True), DataLoader(Batches(8, 1), batch_size=4)
    settings = {"device": "cpu", "checkpoint_dir": str(tmp_path / "checkpoints"), "num_epochs": 2} | config
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    return JASPERTrainer(
        settings,
        *(model, ema, loss or JASPERMultiObjectiveLoss(), optimizer, *loaders, scheduler, TrainingMonitor(tmp_path)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", some_slow(range(1, 13), {3, 8}))
def test_any_loader_goes_on_in_the_middle_of_an_epoch(
    tmp_path: Path, dying: Callable[[float], None], step: int
) -> None:
    settings = {"validate_every_n_steps": 3, "best_metric": "val/total", "save_every_n_epochs": 1}
    whole = documented(tmp_path / "whole", **settings)
    before = torch.random.get_rng_state()
    history = whole.fit()
    assert torch.equal(torch.random.get_rng_state(), before)
    dying(step)
    with pytest.raises(Killed):
        documented(tmp_path / "killed", **settings).fit()
    dying(math.inf)
    trainer = documented(tmp_path / "killed", **settings)
    trainer.load_checkpoint(newest(tmp_path / "killed" / "checkpoints"))
    assert untimed(trainer.fit()) == untimed(history)
    final = (read_checkpoint(tmp_path / name / "checkpoints" / "final.pt") for name in ("whole", "killed"))
    assert same(*final)


@pytest.mark.slow
def test_where_nothing_is_written_the_best_is_kept_in_memory(tmp_path: Path) -> None:
    trainer = documented(tmp_path, checkpoint_dir=None)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    for group in trainer.optimizer.param_groups:
        group["lr"] = 30.0
    trainer.fit()
    assert not same(trainer.model.state_dict(), before)
    assert trainer.load_best() is None
    assert same(trainer.model.state_dict(), before)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_the_documented_constructor(tmp_path: Path) -> None:
    trainer = documented(tmp_path)
    (first, second) = trainer.fit()
    assert trainer.global_step == 12
    assert {"train/total", "train/centroid_acc", "val/total", "val/vicreg_c", "train/ema_distance"} <= set(first)
    assert "val/ndcg@10" not in second
    assert trainer.best_metric[0] == "val/total"
    epoch, metrics = trainer.load_checkpoint(tmp_path / "checkpoints" / "best.pt")
    assert metrics["val/total"] == pytest.approx(trainer.best_val_loss)
    assert epoch in (-1, 0, 1)


@pytest.mark.slow
def test_an_epoch_can_be_asked_for_on_its_own(tmp_path: Path) -> None:
    trainer = documented(tmp_path, num_epochs=1)
    for epoch in range(3):
        assert trainer.train_epoch(epoch)["total"] > 0
        assert trainer.global_step == 6 * (epoch + 1)
    assert {"total", "jasper"} <= set(trainer.validate())
    assert "val/total" in trainer.validate(prefix="val/")


@pytest.mark.slow
def test_lists_of_batches_and_losses_of_ones_own_will_do(tmp_path: Path) -> None:
    class Own(nn.Module):
        def forward(self, predicted: Tensor, target: Tensor, *_: Any) -> tuple[Tensor, dict[str, Tensor]]:
            loss = (predicted - target).square().mean()
            return loss, {"total": loss, "squares": loss.detach()}

    batch = {"question_emb": torch.eye(WIDTH), "target_source_emb": torch.eye(WIDTH).roll(1, 0), "ids": ["a"]}
    trainer = documented(tmp_path, loaders=([batch, batch], None), loss=Own())
    first, second = trainer.fit()
    assert second["train/squares"] < first["train/squares"]
    # Nothing is held out: nothing is best.
    assert not any(name.startswith("val/") for name in first)
    assert not (tmp_path / "checkpoints" / "best.pt").exists()
    with pytest.raises(ValueError, match="learning_rat"):
        documented(tmp_path, learning_rat=1)


@pytest.mark.slow
def test_warnings_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every question has the same answer: the predictions collapse."""
    batch = {"question_emb": torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(0))}
    batch["target_source_emb"] = torch.ones(16, WIDTH) / WIDTH**0.5
    loss = JASPERMultiObjectiveLoss(lambda_contrastive=0, lambda_centroid=0, lambda_vicreg=0)
    trainer = documented(tmp_path, loaders=([batch] * 4, [batch]), loss=loss, num_epochs=12)
    with caplog.at_level(logging.WARNING, "jasper_rag"):
        trainer.fit()
    assert caplog.text.count("Predictions collapse") <= 1
    assert len({record.getMessage() for record in caplog.records}) == len(caplog.records)
