from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from jasper_rag.data.loader import create_loader
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.training.health import PREDICTION_COSINE
from jasper_rag.training.objective import mean_cosine
from jasper_rag.training.training_run import TrainingRun
from jasper_rag.training.validation import Validation, predict, projection

Prepare = Callable[..., TrainingRun]


@pytest.mark.slow
def test_losses_are_means_over_all_samples_in_evaluation_mode(
    prepared: Prepare, tmp_path: Path, steering_root: Path
) -> None:
    """Batches of 5 and of 3 + 2 give the same: nothing here looks beyond its row."""
    settings = {"loss__lambda_contrastive": 0, "loss__lambda_vicreg": 0}
    run = prepared(tmp_path, **settings)
    trainer = run.trainer
    trainer.fit(1)
    trainer.model.train()
    whole = trainer.validate()
    objective = trainer._step.objective
    for size in (3, 1):
        loader = create_loader(JASPERSteeringDataset(steering_root, "val", seed=0), "val", size)
        parts = Validation(objective, loader, run.config.loss, None, torch.device("cpu"))
        found = parts(trainer.model, trainer.ema_encoder)
        for name in ("total", "jasper", "centroid", "centroid_acc", "ndcg@10_centroid"):
            assert found[name] == pytest.approx(whole[name], rel=1e-5)
    assert trainer.model.training
    assert trainer.ema_encoder.training
    assert trainer.validate() == whole


@pytest.mark.slow
def test_a_plain_loader_over_a_steering_dataset_is_ranked_too(prepared: Prepare, tmp_path: Path) -> None:
    run = prepared(tmp_path)
    loader = DataLoader(run.datasets["val"], batch_size=4)
    validation = Validation(run.trainer._step.objective, loader, None, None, torch.device("cpu"))
    assert "ndcg@10_centroid" in validation(run.trainer.model, run.trainer.ema_encoder)
    assert validation.usable("val/ndcg@10") == "val/ndcg@10"


def test_without_ranking_the_loss_chooses(prepared: Prepare, tmp_path: Path) -> None:
    objective = prepared(tmp_path).trainer._step.objective
    validation = Validation(objective, None, None, None, torch.device("cpu"))
    assert validation.usable("val/ndcg@10") == validation.usable("val/mrr@10_centroid") == "val/total"
    assert validation.usable("val/centroid_acc") == "val/centroid_acc"
    assert validation(nn.Identity(), objective.ema) == {}


def test_the_mean_cosine_of_two_different_rows() -> None:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    unit = normalize(rows, dim=1)
    cosines = (unit @ unit.T)[~torch.eye(6, dtype=torch.bool)]
    assert float(mean_cosine(rows)) == pytest.approx(float(cosines.mean()), abs=1e-6)
    assert float(mean_cosine(rows[:1])) == 0
    assert PREDICTION_COSINE == "prediction_cosine"


def test_blocks_of_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sum(nn.Module):
        def forward(self, question: torch.Tensor, steering: torch.Tensor | None) -> torch.Tensor:
            assert len(question) <= 3
            return question if steering is None else question + steering

    monkeypatch.setattr("jasper_rag.training.validation._ROWS", 3)
    questions = torch.arange(14.0).view(7, 2)
    assert torch.equal(predict(Sum(), questions, None), questions)
    assert torch.equal(predict(Sum(), questions, questions), 2 * questions)


def test_sources_stand_as_an_index_would_hold_them(prepared: Prepare, tmp_path: Path) -> None:
    ema = prepared(tmp_path, ema__target="ema").trainer.ema_encoder
    nn.init.constant_(next(ema.online_encoder.parameters()), 0.3)
    sources = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(projection(ema)(sources), normalize(sources, dim=1))


def test_a_line_for_people() -> None:
    assert Validation.summary({}) == ""
    row = {"train/total": 1.0, "val/total": 2.0, "val/ndcg@10": 0.5, "val/ndcg@10_question": 0.25}
    assert Validation.summary(row) == "loss 1.0000, val loss 2.0000, val nDCG@10 0.5000 (question alone 0.2500)"
