"""A run of the subspace model, killed at some step and resumed, ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.training.checkpointing import read_checkpoint
from jasper_rag.training.train_step import TrainStep
from jasper_rag.training.training_run import TrainingRun

Prepare = Callable[..., TrainingRun]

RICH: dict[str, Any] = {
    "training__num_epochs": 3,
    "router__anchor_epochs": 1,
    "router__freeze_router": True,
    "training__gradient_accumulation_steps": 2,
    "training__validate_every_n_steps": 2,
    "ema__target": "ema",
}
"""5 batches an epoch are 3 steps, 9 in all; the first 3 are the router's."""


class Killed(Exception):
    """The process is gone."""


def alike(one: Any, other: Any) -> bool:
    """Bit for bit, but for the time that epochs took."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        keys = set(one) - {"epoch_time_s", "checkpoint_dir"}
        return keys == set(other) - {"epoch_time_s", "checkpoint_dir"} and all(alike(one[k], other[k]) for k in keys)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def whole(routed: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    routed(root, **RICH).trainer.fit()
    return root


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5, 8])
def test_killed_and_resumed_it_is_the_same_run(
    whole: Path, routed: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    original, left = TrainStep.__call__, [step]

    def dying(self: TrainStep, *arguments: Any) -> dict[str, torch.Tensor]:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "__call__", dying)
        with pytest.raises(Killed):
            routed(tmp_path, **RICH).trainer.fit()
    run = routed(tmp_path, **RICH)
    kept = sorted((tmp_path / "checkpoints").glob("*.pt"), key=lambda path: read_checkpoint(path)["global_step"])
    run.trainer.load_checkpoint(kept[-1])
    run.trainer.fit()
    for name in ("best.pt", "final.pt", "epoch_0001.pt", "epoch_0002.pt"):
        one, other = (read_checkpoint(root / "checkpoints" / name) for root in (whole, tmp_path))
        assert alike(one, other), name


@pytest.mark.slow
def test_a_checkpoint_keeps_k_and_the_epoch_of_the_entropy(whole: Path, routed: Prepare, tmp_path: Path) -> None:
    content = read_checkpoint(whole / "checkpoints" / "final.pt")
    state = content["objective_state_dict"]
    assert (state["epoch"], int(state["routing"]["entropy.subspace_count"])) == (2, 3)
    run = routed(tmp_path, **RICH)
    run.trainer.load_checkpoint(whole / "checkpoints" / "final.pt")
    # The entropy is held to the target of the epoch that the checkpoint is of.
    assert run.trainer.validate()["entropy_reg"] == pytest.approx(run.trainer.history[-1]["val/entropy_reg"])
