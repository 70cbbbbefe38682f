from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jasper_rag.training.checkpointing import read_checkpoint
from jasper_rag.training.monitoring import read_history
from jasper_rag.training.train_step import TrainStep
from jasper_rag.training.training_run import TrainingRun

Prepare = Callable[..., TrainingRun]


RICH: dict[str, Any] = {
    "ema__target": "ema",
    "loss__stages": [{"from_epoch": 0, "lambda_vicreg": 0.0}, {"from_epoch": 1, "lambda_vicreg": 0.1}],
    "training__gradient_accumulation_steps": 2,
    "training__validate_every_n_steps": 2,
    "training__validate_every_n_epochs": 2,
    "training__early_stopping_patience": 50,
    "training__keep_last_n_checkpoints": 2,
}


"""5 batches an epoch are 3 steps: 9 in all, validated after every second and after epochs 1 and 2."""


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


@pytest.fixture(scope="module")
def uninterrupted(prepared: Prepare, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    run = prepared(tmp_path_factory.mktemp("whole"), **RICH)
    run.trainer.fit()
    return run


@pytest.mark.slow
@pytest.mark.parametrize("step", some_slow(range(1, 10), {1, 3, 5, 8}))
def test_killed_at_any_step_and_resumed_it_is_the_same_run(
    uninterrupted: TrainingRun, prepared: Prepare, dying: Callable[[float], None], tmp_path: Path, step: int
) -> None:
    dying(step)
    with pytest.raises(Killed):
        prepared(tmp_path, **RICH).trainer.fit()
    dying(math.inf)
    run = prepared(tmp_path, **RICH)
    run.trainer.load_checkpoint(newest(tmp_path / "checkpoints"))
    history = run.trainer.fit()
    whole = uninterrupted.trainer
    assert untimed(history) == untimed(whole.history)
    steps = [(row["step"], "epoch_time_s" in row) for row in history]
    assert len(set(steps)) == len(steps)
    assert steps == [(2, False), (3, True), (4, False), (6, False), (6, True), (8, False), (9, True)]
    assert untimed(read_history(tmp_path / "metrics.jsonl")) == untimed(
        read_history(uninterrupted.monitor.output_dir / "metrics.jsonl")
    )
    for name in ("best.pt", "final.pt", "epoch_0001.pt", "epoch_0002.pt"):
        one, other = (read_checkpoint(root / "checkpoints" / name) for root in (tmp_path, whole_folder(uninterrupted)))
        assert same(one, other), name


def whole_folder(run: TrainingRun) -> Path:
    return run.monitor.output_dir


@pytest.mark.slow
def test_a_finished_run_says_so_and_can_be_extended(
    prepared: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared(tmp_path, training__num_epochs=2).trainer.fit()
    final = tmp_path / "checkpoints" / "final.pt"
    trainer = prepared(tmp_path, training__num_epochs=2).trainer
    trainer.load_checkpoint(final)
    with caplog.at_level(logging.INFO, "jasper_rag"):
        assert len(trainer.fit()) == 2
    assert "nothing left to train: 2 of 2 epochs are done" in caplog.text
    assert trainer.global_step == 10
    longer = prepared(tmp_path, training__num_epochs=3).trainer
    longer.load_checkpoint(final)
    # The schedule is the longer run's from the first step on.
    whole = prepared(tmp_path / "whole", training__num_epochs=3).trainer
    whole.fit()
    assert [row["epoch"] for row in longer.fit()] == [0, 1, 2]
    assert longer.history[-1]["train/lr"] == whole.history[-1]["train/lr"]


@pytest.mark.slow
def test_other_settings_hold_from_a_resume_on(prepared: Prepare, tmp_path: Path) -> None:
    prepared(tmp_path, training__num_epochs=1).trainer.fit()
    changed = {"training__learning_rate": 0.001, "training__weight_decay": 0.5, "training__schedule": "constant"}
    trainer = prepared(tmp_path, **changed).trainer
    trainer.load_checkpoint(tmp_path / "checkpoints" / "final.pt")
    (group,) = trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.001, 0.5)
    assert trainer.fit()[-1]["train/lr"] == 0.001


@pytest.mark.slow
def test_early_stopping_holds_after_a_resume(prepared: Prepare, tmp_path: Path) -> None:
    settings = {
        "training__early_stopping_patience": 1,
        "training__num_epochs": 8,
        "training__learning_rate": 1e-9,
        "training__best_metric": "val/recall@10",
    }
    trainer = prepared(tmp_path, **settings).trainer
    epochs = len(trainer.fit())
    assert epochs == 4  # nothing is given up in the first half of a run that does not move
    again = prepared(tmp_path, **settings).trainer
    again.load_checkpoint(newest(tmp_path / "checkpoints"))
    assert len(again.fit()) == epochs
    assert again.global_step == trainer.global_step
