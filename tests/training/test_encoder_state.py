from __future__ import annotations

import os
from pathlib import Path

import pytest

from jasper_rag.training.encoder_report import verdict
from jasper_rag.training.encoder_state import EncoderRunState, latest_checkpoint


def test_the_best_is_strictly_better_than_all_before() -> None:
    state = EncoderRunState()
    assert state.improved_by(0.5)
    state.epoch = 1
    assert not state.improved_by(0.5)
    assert state.improved_by(0.6)
    assert (state.best_epoch, state.best_ndcg) == (1, 0.6)
    state.epoch = 2
    # Without a figure the last epoch is taken.
    assert state.improved_by(None)
    assert EncoderRunState(**state.plain()) == state


def test_the_latest_checkpoint_is_the_one_written_last(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    for name, time in (("checkpoint_epoch_20.pt", 1), ("checkpoint_epoch_2.pt", 2), ("best_model.pt", 3)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time, time))
    # Epoch 20 is of an earlier run in the same folder.
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_epoch_2.pt"


def state_of(best_epoch: int | None, best: float | None, base: float | None, last: float) -> EncoderRunState:
    return EncoderRunState(3, best_epoch, best, base, [{"ndcg@10": last}])


@pytest.mark.parametrize(
    ("state", "trained_on", "said"),
    [
        (state_of(2, 0.6, 0.5, 0.55), None, "Best on val: epoch 2, nDCG@10 0.6000; base model 0.5000 (+0.1000)."),
        (state_of(1, 0.6, 0.5, 0.45), None, "The last epoch (0.4500) is below the base model: use best_model.pt"),
        (state_of(0, 0.5, 0.5, 0.45), None, "best_model.pt holds the untrained head, the identity"),
        (state_of(0, 0.4, 0.5, 0.35), None, "It stays below the base model (0.5000)"),
        (state_of(0, 0.6, 0.5, 0.55), "old.pt", "best_model.pt holds the model of old.pt as it was."),
        (state_of(3, None, None, 0.0), None, "Not compared with the base model, for want of --val_data"),
    ],
)
def test_the_verdict_says_what_is_best(state: EncoderRunState, trained_on: str | None, said: str) -> None:
    assert said in verdict(state, trained_on)
