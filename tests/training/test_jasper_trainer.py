from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jasper_rag.errors import InputError
from jasper_rag.training.checkpointing import read_checkpoint
from jasper_rag.training.health import TrainingDiverged
from jasper_rag.training.monitoring import read_history
from jasper_rag.training.training_run import TrainingRun

Prepare = Callable[..., TrainingRun]


DOCUMENTED_KEYS = {
    *("model_state_dict", "ema_state_dict", "optimizer_state_dict", "scheduler_state_dict"),
    *("global_step", "epoch", "metrics"),
}


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


@pytest.mark.slow
def test_a_run_from_end_to_end(prepared: Prepare, tmp_path: Path) -> None:
    run = prepared(tmp_path, ema__target="ema")
    before = {name: tensor.clone() for name, tensor in run.trainer.model.state_dict().items()}
    history = run.trainer.fit()
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert [row["step"] for row in history] == [5, 10, 15]
    assert run.trainer.global_step == 15
    assert not same(before, run.trainer.model.state_dict())
    row = history[-1]
    names = ["total", "jasper", "contrastive", "centroid", "centroid_acc", "vicreg", "vicreg_v", "vicreg_i", "vicreg_c"]
    assert {f"{split}/{name}" for name in names for split in ("train", "val")} <= set(row)
    assert {"train/lr", "train/tau", "train/ema_distance", "train/grad_norm", "train/steering_zero"} <= set(row)
    for ending in ("", "_centroid", "_keyword", "_residual", "_question"):
        assert {f"val/{measure}@10{ending}" for measure in ("ndcg", "recall", "mrr")} <= set(row)
    shares = [row[f"train/steering_{name}"] for name in ("zero", "centroid", "keyword", "residual")]
    assert sum(shares) == pytest.approx(1)
    assert run.trainer.best_val_loss <= min(each["val/total"] for each in history)
    assert untimed(read_history(tmp_path / "metrics.jsonl")) == untimed(run.monitor.history)
    # Twice the same run.
    again = prepared(tmp_path / "again", ema__target="ema").trainer
    assert untimed(again.fit()) == untimed(history)
    assert same(again.model.state_dict(), run.trainer.model.state_dict())


@pytest.mark.slow
def test_the_average_moves_at_every_step_and_after_the_optimiser(prepared: Prepare, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, ema__target="ema").trainer
    seen: list[tuple[int, int]] = []
    weights: list[tuple[Tensor, Tensor]] = []
    original, ema = trainer.ema_encoder.update_target, trainer.ema_encoder

    def watched(step: int, max_steps: int) -> None:
        online, target = (ema.state_dict()[f"{name}_encoder.weight"].clone() for name in ("online", "target"))
        original(step, max_steps)
        seen.append((step, max_steps))
        weights.append((online, target.lerp(online, 1 - ema.get_tau(step, max_steps))))
        assert torch.allclose(ema.state_dict()["target_encoder.weight"], weights[-1][1], atol=1e-7)

    trainer.ema_encoder.update_target = watched  # type: ignore[method-assign]
    trainer.fit()
    assert seen == [(step, 15) for step in range(15)]
    # What the average was moved towards had been through the optimiser: it is no longer the identity at step 0.
    assert not torch.equal(weights[0][0], torch.eye(8))


@pytest.mark.slow
def test_checkpoints_hold_what_is_documented(prepared: Prepare, tmp_path: Path) -> None:
    run = prepared(tmp_path, training__keep_last_n_checkpoints=2, training__num_epochs=4)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    mine = {name: folder / name for name in ("mine.pt", "epoch_0099.pt", "epoch_1.pt")}
    for path in mine.values():
        path.write_bytes(b"of somebody else")
    run.trainer.fit()
    names = {path.name for path in folder.iterdir()}
    assert names == {"best.pt", "final.pt", "epoch_0002.pt", "epoch_0003.pt", *mine}
    state = torch.load(folder / "final.pt", weights_only=True)
    assert set(state) >= DOCUMENTED_KEYS
    assert (state["global_step"], state["epoch"]) == (20, 3)
    assert {"online_encoder.weight", "target_encoder.weight", "_ema_tau_min"} <= set(state["ema_state_dict"])
    assert state["metrics"] == run.trainer.history[-1]
    trainer = prepared(tmp_path / "other").trainer
    epoch, metrics = trainer.load_checkpoint(folder / "best.pt")
    assert (epoch, trainer.global_step) == (epoch, 5 * (epoch + 1))
    assert metrics["val/total"] > 0
    assert metrics["val/ndcg@10"] == run.trainer.best_metric[1]


@pytest.mark.slow
def test_the_curriculum_and_the_stages_follow_the_epoch(prepared: Prepare, tmp_path: Path) -> None:
    stages = [{"from_epoch": 1, "lambda_vicreg": 0.0}, {"from_epoch": 2, "lambda_centroid": 0.0}]
    run = prepared(
        tmp_path,
        loss__stages=stages,
        steering__curriculum={"zero_prob_start": 1.0, "zero_prob_end": 0.0, "epochs_total": 2},
    )
    first, second, third = run.trainer.fit()
    assert [row["train/steering_zero"] for row in (first, third)] == [1, 0]
    assert 0 < second["train/steering_zero"] < 1
    assert run.datasets["train"].current_epoch == 2
    assert "train/vicreg" in first
    assert "train/vicreg" not in second
    assert "train/centroid" in second
    assert "train/centroid" not in third


@pytest.mark.slow
def test_a_second_look_at_the_same_step_costs_no_patience(prepared: Prepare, tmp_path: Path) -> None:
    run = prepared(
        tmp_path,
        training__validate_every_n_steps=5,
        training__early_stopping_patience=1,
        training__best_metric="val/jasper",
        loss__lambda_contrastive=0,
        loss__lambda_centroid=0,
        loss__lambda_vicreg=0,
        model__dropout=0.0,
    )
    assert [row["step"] for row in run.trainer.fit()] == [5, 5, 10, 10, 15, 15]


@pytest.mark.slow
def test_the_last_step_is_validated_wherever_it_falls(prepared: Prepare, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, training__max_steps=7, training__validate_every_n_epochs=3).trainer
    history = trainer.fit()
    assert [(row["step"], "val/total" in row) for row in history] == [(5, False), (7, True)]
    assert trainer.load_best() is not None


@pytest.mark.slow
def test_no_validation_within_reach_still_ends_well(prepared: Prepare, tmp_path: Path) -> None:
    settings = {"training__validate_every_n_epochs": 0, "training__validate_every_n_steps": 1000}
    trainer = prepared(tmp_path, **settings, training__num_epochs=1).trainer
    assert trainer.fit() == []
    assert read_checkpoint(tmp_path / "checkpoints" / "final.pt")["global_step"] == 5


@pytest.mark.slow
def test_the_loss_can_choose(prepared: Prepare, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, training__best_metric="val/total").trainer
    history = trainer.fit()
    lowest = min(row["val/total"] for row in history)
    assert trainer.best_metric == ("val/total", trainer.best_val_loss)
    assert trainer.best_val_loss <= lowest
    with pytest.raises(ValueError, match="val/speed"):
        prepared(tmp_path / "other", training__best_metric="val/speed").trainer.fit()


@pytest.mark.slow
def test_the_best_weights_come_back(prepared: Prepare, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, training__learning_rate=0.5, ema__target="ema").trainer
    trainer.fit()
    best = read_checkpoint(tmp_path / "checkpoints" / "best.pt")
    logged = len(trainer.history)
    assert trainer.load_best() == best["epoch"]
    assert same(trainer.model.state_dict(), best["model_state_dict"])
    assert same(trainer.ema_encoder.state_dict(), best["ema_state_dict"])
    assert len(trainer.history) == logged
    assert trainer.monitor is not None
    assert trainer.monitor.num_epochs_logged == logged


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "pickle", "foreign", "width"])
def test_bad_checkpoints_are_refused(prepared: Prepare, tmp_path: Path, damage: str) -> None:
    trainer = prepared(tmp_path).trainer
    path = tmp_path / "bad.pt"
    if damage == "text":
        path.write_text("no checkpoint")
    elif damage == "truncated":
        trainer.save_checkpoint(path, 0)
        path.write_bytes(path.read_bytes()[:-500])
    elif damage == "pickle":
        torch.save({"model_state_dict": Crafted(str(tmp_path / "owned"))}, path)
    elif damage == "foreign":
        torch.save({"model_state_dict": {}}, path)
    elif damage == "width":
        other = prepared(tmp_path / "wide", model__hidden_dim=16).trainer
        other.save_checkpoint(path, 0)
    with pytest.raises(InputError, match=r"bad\.pt"):
        trainer.load_checkpoint(path)
    assert not (tmp_path / "owned").exists()


class Crafted:
    """Creates a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.slow
def test_a_divergence_stops_at_once_and_leaves_the_last_good_checkpoint(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path)
    original = run.trainer.loss_fn.forward
    calls = {"training": 0}

    def poisoned(*arguments: Any, **named: Any) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts = original(*arguments, **named)
        calls["training"] += torch.is_grad_enabled()
        if calls["training"] == 8:
            return total * math.nan, parts | {"contrastive": parts["contrastive"] * math.nan}
        return total, parts

    monkeypatch.setattr(run.trainer.loss_fn, "forward", poisoned)
    with pytest.raises(TrainingDiverged, match="step 8: contrastive not finite") as caught:
        run.trainer.fit()
    assert caught.value.losses == ("contrastive",)
    assert "lower the learning rate" in caught.value.remedy
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"best.pt", "epoch_0000.pt"}
    for path in (tmp_path / "checkpoints").iterdir():
        weights = read_checkpoint(path)["model_state_dict"].values()
        assert all(bool(tensor.isfinite().all()) for tensor in weights)


@pytest.mark.slow
def test_a_gradient_that_overflows_is_no_checkpoint(prepared: Prepare, tmp_path: Path) -> None:
    """The last step of an epoch ruins the weights while its loss is still finite."""
    run = prepared(tmp_path, training__max_grad_norm=0)
    optimizer, steps = run.trainer.optimizer, {"made": 0}

    def ruin(*_: Any) -> None:
        steps["made"] += 1
        if steps["made"] == 5:
            for parameter in run.trainer.model.parameters():
                parameter.data.fill_(math.nan)

    optimizer.register_step_post_hook(ruin)
    with pytest.raises(TrainingDiverged, match="epoch 0: weights not finite"):
        run.trainer.fit()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["best.pt"]


@pytest.mark.slow
def test_accumulated_batches_are_one_large_batch(prepared: Prepare, tmp_path: Path) -> None:
    """Of losses that are means over rows."""
    same_loss = {"loss__lambda_vicreg": 0, "model__dropout": 0.0, "training__num_epochs": 2}
    halves = {"training__batch_size": 4, "training__gradient_accumulation_steps": 2}
    whole = prepared(tmp_path / "whole", **same_loss).trainer
    parts = prepared(tmp_path / "parts", **same_loss, **halves).trainer
    whole.fit()
    parts.fit()
    assert whole.global_step == parts.global_step == 10
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], tensor, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_new_negatives_are_taken_up(prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepared(tmp_path, training__reload_negatives_every_n_epochs=2, training__num_epochs=5)
    seen: list[int] = []
    dataset = run.datasets["train"]

    def reload(self: Any) -> bool:
        seen.append(run.trainer.global_step)
        return False

    monkeypatch.setattr(type(dataset), "reload_negatives", reload)
    run.trainer.fit()
    assert seen == [10, 20]


@pytest.mark.slow
def test_rows_are_plain_numbers(prepared: Prepare, tmp_path: Path) -> None:
    history = prepared(tmp_path, training__num_epochs=1).trainer.fit()
    assert json.loads(json.dumps(history)) == history
