from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from jasper_rag.errors import InputError
from jasper_rag.models.ema_encoder import EMAEncoder, identity_encoder
from jasper_rag.training.best_model import BestModel
from jasper_rag.training.checkpointing import read_checkpoint
from jasper_rag.training.trainer_state import TrainedParts, TrainerState


def draw(state: TrainerState, count: int) -> list[float]:
    with state.randomness():
        return torch.rand(count).tolist()


def test_numbers_go_on_where_they_were_and_the_callers_stay() -> None:
    before = torch.random.get_rng_state()
    whole, parts = TrainerState(3), TrainerState(3)
    expected = draw(whole, 10)
    first = draw(parts, 4)
    resumed = TrainerState(99)
    resumed.take_rng_state(parts.rng_state())
    assert first + draw(resumed, 6) == expected
    assert draw(TrainerState(4), 10) != expected
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(RuntimeError):
        resumed.take_rng_state({"cpu": torch.zeros(3, dtype=torch.uint8)})


def test_what_happens_in_between_takes_no_numbers() -> None:
    state, plain = TrainerState(3), draw(TrainerState(3), 4)
    with state.randomness():
        first = torch.rand(2).tolist()
        with state.outside():
            noted = dict(state.rng_state())
            torch.rand(7)
        second = torch.rand(2).tolist()
    assert first + second == plain
    resumed = TrainerState(0)
    resumed.take_rng_state(noted)
    assert draw(resumed, 2) == second


def test_an_error_keeps_the_numbers() -> None:
    state = TrainerState(3)

    def fail() -> None:
        with state.randomness():
            torch.rand(2)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert draw(state, 2) == draw(TrainerState(3), 4)[2:]


def test_the_rest_of_an_epoch_is_of_that_epoch_alone() -> None:
    state = TrainerState(0, epoch=1, step_in_epoch=4)
    state.epoch_sums.add({"total": torch.tensor(1.0)})
    state.begin_epoch(2)
    assert (state.epoch, state.step_in_epoch) == (1, 4)
    assert state.epoch_sums.means() == {"total": 1.0}
    state.begin_epoch(5)
    assert (state.epoch, state.step_in_epoch, state.epoch_sums.means()) == (4, 0, {})
    state.finish_epoch(5)
    assert state.epoch == 5


def parts(schedule: Any = None, width: int = 3) -> TrainedParts:
    model = nn.Linear(width, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = None if schedule is None else schedule(optimizer)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    ema = EMAEncoder(identity_encoder(3))
    return TrainedParts(model, ema, optimizer, scheduler, scaler, TrainerState(0), BestModel("val/total"), [], {})


def sequential(optimizer: torch.optim.Optimizer) -> Any:
    """As the original project's scripts have it."""
    schedules = torch.optim.lr_scheduler
    warmup = schedules.LinearLR(optimizer, 0.1, total_iters=2)
    cosine = schedules.CosineAnnealingLR(optimizer, T_max=5)
    return schedules.SequentialLR(optimizer, [warmup, cosine], milestones=[2])


def step_on(trained: TrainedParts) -> None:
    assert trained.scheduler is not None
    trained.scheduler.step()


def weight_of(trained: TrainedParts) -> torch.Tensor:
    weight: torch.Tensor = trained.model.state_dict()["weight"]
    return weight


@pytest.mark.parametrize("schedule", [sequential, lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)])
def test_any_schedule_goes_on(tmp_path: Path, schedule: Any) -> None:
    whole, again = parts(schedule), parts(schedule)
    rates = []
    for step in range(6):
        torch.autograd.backward(whole.model(torch.eye(3)).sum())
        whole.optimizer.step()
        step_on(whole)
        if step == 2:
            whole.save(tmp_path / "a.pt", 0, {})
            again.load(tmp_path / "a.pt")
        if step > 2:
            rates.append(whole.optimizer.param_groups[0]["lr"])
    found = []
    for _ in range(3):
        again.optimizer.step()
        step_on(again)
        found.append(again.optimizer.param_groups[0]["lr"])
    assert found == rates


def test_numbers_of_any_kind_become_plain(tmp_path: Path) -> None:
    one = parts()
    one.history.append({"epoch": 0, "train/total": np.float32(0.5)})  # type: ignore[dict-item]
    one.save(tmp_path / "a.pt", 3, {"val/total": torch.tensor(0.25), "n": np.int64(4), "done": True})
    other = parts()
    assert other.load(tmp_path / "a.pt") == (3, {"val/total": 0.25, "n": 4.0, "done": 1.0})
    assert other.history == [{"epoch": 0, "train/total": 0.5}]


@pytest.mark.parametrize(
    "changes",
    [
        {"model_state_dict": {"weight": torch.eye(2)}},
        {"optimizer_state_dict": {"state": {}, "param_groups": []}},
        {"rng_state": {"cpu": "no state"}},
        {"history": 5},
        {"partial_sums": {"total": 1.0}},
        {"best": {"metric": "val/total"}},
        {"step_in_epoch": "many"},
    ],
)
def test_a_checkpoint_that_does_not_fit_is_bad_input(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "a.pt"
    parts().save(path, 0, {})
    torch.save(read_checkpoint(path) | changes, path)
    with pytest.raises(InputError, match="does not fit this model"):
        parts().load(path)


def test_the_best_weights_alone(tmp_path: Path) -> None:
    one = parts()
    one.save(tmp_path / "best.pt", 4, {})
    other = parts()
    assert other.load_best(None) is None
    assert not torch.equal(weight_of(other), weight_of(one))
    other.state.global_step = 9
    assert other.load_best(tmp_path) == 4
    assert torch.equal(weight_of(other), weight_of(one))
    assert other.state.global_step == 9
    other.save_periodic(tmp_path, 1, {}, keep=1)
    other.save_periodic(tmp_path, 2, {}, keep=1)
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "epoch_0002.pt"}
