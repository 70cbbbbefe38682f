from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from jasper_rag.errors import InputError
from jasper_rag.training.monitoring import TrainingMonitor, read_history
from jasper_rag.training.run_config import RunConfig
from jasper_rag.yaml_files import read_yaml

PNG = b"\x89PNG"


def logged(directory: Path, epochs: int = 4, **more: Any) -> TrainingMonitor:
    monitor = TrainingMonitor(directory)
    for epoch in range(epochs):
        metrics = {"train/total": 2.0 - 0.1 * epoch, "val/total": 2.1 - 0.1 * epoch, "val/ndcg@10": 0.4 + 0.01 * epoch}
        monitor.log_metrics(epoch, metrics | {"train/steering_zero": 0.5, "train/steering_centroid": 0.5} | more)
    return monitor


def test_rows_are_kept_and_written(tmp_path: Path) -> None:
    monitor = logged(tmp_path / "run", 2)
    assert monitor.num_epochs_logged == 2
    assert list(monitor.history[1]) == [
        "epoch",
        "train/total",
        "val/total",
        "val/ndcg@10",
        "train/steering_zero",
        "train/steering_centroid",
    ]
    assert read_history(tmp_path / "run/metrics.jsonl") == monitor.history


@pytest.mark.slow
def test_as_the_documents_use_it(tmp_path: Path) -> None:
    monitor = TrainingMonitor(output_dir=str(tmp_path / "my_run"), wandb_name="experiment-01", wandb_config={"a": 1})
    monitor.log_metrics(epoch=0, metrics_dict={"train/total": 1.23, "val/total": 1.45})
    monitor.export_history(str(tmp_path / "my_run/history.csv"))
    monitor.plot_losses(str(tmp_path / "my_run/losses.png"))
    monitor.finish()
    names = {path.name for path in (tmp_path / "my_run").iterdir()}
    assert names == {"metrics.jsonl", "history.csv", "history.json", "losses.png"}


def test_nothing_is_written_before_something_is_logged(tmp_path: Path) -> None:
    with TrainingMonitor(tmp_path / "run") as monitor:
        assert monitor.plot_losses() is None
        assert monitor.plot_steering_distribution() is None
        assert (monitor.num_epochs_logged, monitor.get_summary_table()) == (0, [])
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_and_torch_become_plain(tmp_path: Path) -> None:
    monitor = TrainingMonitor(tmp_path)
    values = {"a": np.float32(0.5), "b": torch.tensor(2), "c": np.int64(3), "d": True, "e": "text", "f": None}
    monitor.log_metrics(0, values | {"g": torch.tensor([1.5])})
    row = monitor.history[0]
    assert row == {"epoch": 0, "a": 0.5, "b": 2, "c": 3, "d": True, "e": "text", "f": None, "g": 1.5}
    assert {type(row[name]) for name in "abc"} == {float, int}


@pytest.mark.parametrize("value", [torch.ones(2), [1.0], {"a": 1}, object()])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="metric 'x' must be a number"):
        TrainingMonitor(tmp_path).log_metrics(0, {"x": value})


def test_what_is_logged_again_joins_its_row(tmp_path: Path) -> None:
    monitor = TrainingMonitor(tmp_path)
    monitor.log_metrics(1, {"train/total": 1.0})
    monitor.log_metrics(0, {"train/total": 2.0})
    monitor.log_metrics(1, {"val/total": 3.0, "train/total": 1.5})
    assert monitor.history == [{"epoch": 0, "train/total": 2.0}, {"epoch": 1, "train/total": 1.5, "val/total": 3.0}]


def test_steps_of_an_epoch_have_rows_of_their_own(tmp_path: Path) -> None:
    monitor = TrainingMonitor(tmp_path)
    for step in (20, 10):
        monitor.log_metrics(0, {"step": step, "val/total": 1.0})
    assert ([row["step"] for row in monitor.history], monitor.num_epochs_logged) == ([10, 20], 1)


def test_a_resumed_run_repeats_no_row(tmp_path: Path) -> None:
    whole = logged(tmp_path / "whole", 6)
    killed = logged(tmp_path / "killed", 5)
    checkpoint = killed.history[:3]
    resumed = TrainingMonitor(tmp_path / "killed")
    resumed.restore(checkpoint)
    assert len(read_history(tmp_path / "killed/metrics.jsonl")) == 3
    for row in whole.history[3:]:
        resumed.log_metrics(row["epoch"], {name: value for name, value in row.items() if name != "epoch"})
    assert resumed.history == whole.history
    assert (tmp_path / "killed/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_restored_rows_are_copies(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "train/total": 1.0}]
    monitor = TrainingMonitor(tmp_path)
    monitor.restore(rows)
    monitor.log_metrics(0, {"val/total": 1.0})
    assert rows == [{"epoch": 0, "train/total": 1.0}]


def test_the_exports_hold_every_value(tmp_path: Path) -> None:
    monitor = logged(tmp_path, 2, note='a "quoted", text')
    monitor.log_metrics(2, {"train/total": math.nan, "late": 1.0})
    path = monitor.export_history()
    assert path == tmp_path / "training_history.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:2] == ["epoch", "train/total"]
    assert [float(row["train/total"]) for row in rows[:2]] == [2.0, 1.9]
    assert (rows[0]["note"], rows[0]["late"], rows[2]["late"]) == ('a "quoted", text', "", "1.0")
    found = json.loads((tmp_path / "training_history.json").read_text(encoding="utf-8"))
    assert found[:2] == monitor.history[:2]
    assert found[2]["train/total"] is None


def test_exports_stand_beside_each_other_whatever_name_is_given(tmp_path: Path) -> None:
    monitor = logged(tmp_path, 1)
    assert monitor.export_history(tmp_path / "a/h.json") == tmp_path / "a/h.csv"
    assert (tmp_path / "a/h.json").is_file()


@pytest.mark.slow
def test_plots_are_files(tmp_path: Path) -> None:
    monitor = logged(tmp_path)
    losses, steering = monitor.plot_losses(), monitor.plot_steering_distribution()
    assert (losses, steering) == (tmp_path / "loss_curves.png", tmp_path / "steering_distribution.png")
    for path in (losses, steering):
        assert path is not None
        assert path.read_bytes().startswith(PNG)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plot", "plot.txt"])
def test_a_plot_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"ends in one of \.png, \.pdf, \.svg"):
        logged(tmp_path, 1).plot_losses(tmp_path / name)


def test_the_summary_knows_which_way_is_better(tmp_path: Path) -> None:
    monitor = logged(tmp_path, 3, note="x")
    monitor.log_metrics(3, {"val/ndcg@10": 0.1, "val/total": 9.0})
    table = {row["metric"]: row for row in monitor.get_summary_table()}
    assert table["val/ndcg@10"] | {"best": 0.42} == {
        "metric": "val/ndcg@10",
        "first": 0.4,
        "last": 0.1,
        "best": 0.42,
        "best_epoch": 2,
    }
    assert (table["val/total"]["best"], table["val/total"]["best_epoch"]) == (pytest.approx(1.9), 2)
    assert "note" not in table


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [("{", 1, "not JSON"), ('{"epoch": 0}\n[]\n', 2, "no epoch"), ('{"a": 1}', 1, "no epoch")],
)
def test_a_damaged_file_of_metrics_is_refused(tmp_path: Path, text: str, line: int, problem: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        read_history(tmp_path / "metrics.jsonl")
    assert caught.value.line == line


def test_a_missing_file_of_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_history(tmp_path / "metrics.jsonl")


@pytest.mark.slow
def test_metrics_plots_and_settings_go_to_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    started: list[dict[str, Any]] = []
    run = SimpleNamespace(define_metric=lambda *_, **__: None, log=calls.append, finish=lambda: None)
    wandb = ModuleType("wandb")

    def init(**settings: Any) -> SimpleNamespace:
        started.append(settings)
        return run

    wandb.__dict__.update(init=init, Image=lambda path: f"image of {path}")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = RunConfig()
    monitor = TrainingMonitor(tmp_path / "run", True, wandb_config=config)
    monitor.log_metrics(2, {"train/total": torch.tensor(1.5), "train/steering_zero": 1.0, "note": "x"})
    losses = monitor.plot_losses()
    monitor.plot_losses(tmp_path / "a.svg")
    monitor.plot_steering_distribution()
    monitor.finish()
    assert "<svg" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert started == [
        {"project": "jasper-rag", "name": None, "config": config.to_dict(), "dir": str(tmp_path / "run")}
    ]
    assert calls == [
        {"epoch": 2, "train/total": 1.5, "train/steering_zero": 1.0},
        {"losses": f"image of {losses}", "epoch": 2},
        {"steering_distribution": f"image of {tmp_path / 'run/steering_distribution.png'}", "epoch": 2},
    ]


def test_a_run_without_wandb_does_not_touch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    logged(tmp_path, 1).finish()


def test_a_config_file_as_it_is_may_be_shown_there(repository: Path, tmp_path: Path) -> None:
    TrainingMonitor(tmp_path, wandb_config=read_yaml(repository / "configs/jasper_base.yaml")).finish()
