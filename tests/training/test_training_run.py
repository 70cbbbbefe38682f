from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.errors import InputError
from jasper_rag.training.run_config import RunConfig
from jasper_rag.training.training_run import TrainingRun, prepare_run

Prepare = Callable[..., TrainingRun]


@pytest.mark.slow
def test_settings_reach_their_parts(prepared: Prepare, tmp_path: Path) -> None:
    run = prepared(
        tmp_path,
        ema__target="ema",
        ema__tau_min=0.99,
        training__weight_decay=0.3,
        loss__lambda_centroid=0.7,
        steering__probabilities={"zero": 1.0},
        steering__curriculum={"mode": "none"},
    )
    trainer = run.trainer
    (group,) = trainer.optimizer.param_groups
    assert (group["weight_decay"], group["initial_lr"]) == (0.3, 0.01)
    assert any(parameter is trainer.ema_encoder.online_encoder.weight for parameter in group["params"])
    assert trainer.ema_encoder.tau_min == 0.99
    assert trainer.loss_fn.lambda_centroid == 0.7
    assert trainer.config.checkpoint_dir == str(tmp_path / "checkpoints")
    assert set(run.datasets) == {"train", "val", "test"}
    assert run.datasets["train"].steering_probs["zero"] == 1
    assert trainer.fit()[-1]["train/steering_zero"] == 1


@pytest.mark.slow
def test_identity_leaves_the_source_encoder_alone(prepared: Prepare, tmp_path: Path) -> None:
    trainer = prepared(tmp_path).trainer
    row = trainer.fit(1)[-1]
    assert torch.equal(trainer.ema_encoder.state_dict()["online_encoder.weight"], torch.eye(8))
    assert "train/tau" not in row


@pytest.mark.slow
def test_balanced_batches(prepared: Prepare, tmp_path: Path) -> None:
    for balanced in (False, True):
        trainer = prepared(tmp_path, training__balanced_batches=balanced, training__batch_size=6).trainer
        spreads = set()
        for batch in trainer._source.epoch(0):
            counts = Counter(batch["cluster_id"].tolist())
            spreads.add(max(counts.values()) - min(counts.get(cluster, 0) for cluster in range(3)))
        assert (spreads == {0}) is balanced


@pytest.mark.slow
def test_a_seed_decides_and_the_callers_numbers_stay(prepared: Prepare, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (
        prepared(tmp_path / str(number), training__seed=seed).trainer.model.state_dict()
        for number, seed in enumerate((1, 1, 2))
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_width_and_negatives_are_the_datasets(
    prepared: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = prepared(tmp_path, model__embedding_dim=768, dataset__n_neg=3)
    assert (run.config.model.embedding_dim, run.config.dataset.n_neg) == (8, 3)
    assert "model.embedding_dim is 768 in the settings, 8 in the dataset; 8 is used" in caplog.text
    assert "n_neg" not in caplog.text


def test_a_split_that_is_not_there(
    steering_root: Path, tmp_path: Path, configured: Callable[[dict[str, Any]], RunConfig]
) -> None:
    with pytest.raises(InputError, match="no dev split") as caught:
        prepare_run(configured({"dataset.split_val": "dev"}), steering_root, tmp_path)
    assert "train, val, test" in str(caught.value)
    with pytest.raises(InputError):
        prepare_run(configured({}), tmp_path / "nowhere", tmp_path)


@pytest.mark.slow
def test_the_training_split_may_be_validated_on(prepared: Prepare, tmp_path: Path) -> None:
    """Validating in the middle of an epoch leaves the rest of it as it was."""
    plain = prepared(tmp_path / "one", dataset__split_val="train", steering__curriculum={"epochs_total": 1})
    often = prepared(
        tmp_path / "two",
        dataset__split_val="train",
        steering__curriculum={"epochs_total": 1},
        training__validate_every_n_steps=2,
    )
    plain.trainer.fit()
    often.trainer.fit()
    one, two = (run.trainer.model.state_dict() for run in (plain, often))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_measures_a_split(prepared: Prepare, tmp_path: Path) -> None:
    run = prepared(tmp_path, ema__target="ema")
    found = run.measure("test")
    # Untrained, the predictor is the question and the encoder changes nothing.
    assert found["ndcg@10"] == pytest.approx(found["ndcg@10_question"])
    assert len(found) == 15


@pytest.mark.slow
def test_a_dataset_on_disk_trains_too(
    prepared: Prepare, steering_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jasper_rag.data.steering_dataset import JASPERSteeringDataset

    original = JASPERSteeringDataset.create_combined_splits

    def mapped(*given: Any, **named: Any) -> dict[str, JASPERSteeringDataset]:
        named["use_mmap"] = True
        return original(*given, **named)

    monkeypatch.setattr(JASPERSteeringDataset, "create_combined_splits", mapped)
    run = prepared(tmp_path, training__num_workers=0, training__num_epochs=1)
    assert "val/ndcg@10" in run.trainer.fit()[-1]
    shutil.rmtree(tmp_path / "checkpoints")
