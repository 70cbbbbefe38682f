from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jasper_rag.training.wandb_run import WandbRun


class FakeWandb(ModuleType):
    """The part of the package that is used; `failing` names calls that fail."""

    class Error(Exception):
        pass

    def __init__(self, failing: str = "") -> None:
        super().__init__("wandb")
        self.failing = failing
        self.calls: list[tuple[str, Any]] = []

    def _call(self, name: str, given: Any) -> FakeWandb:
        if name == self.failing:
            raise self.Error("no network")
        self.calls.append((name, given))
        return self

    def init(self, **settings: Any) -> FakeWandb:
        return self._call("init", settings)

    def define_metric(self, name: str, step_metric: str) -> None:
        self._call("define_metric", (name, step_metric))

    def log(self, values: dict[str, Any]) -> None:
        self._call("log", values)

    def finish(self) -> None:
        self._call("finish", None)

    def Image(self, path: str) -> str:
        return f"image of {path}"


def installed(monkeypatch: pytest.MonkeyPatch, failing: str = "") -> FakeWandb:
    wandb = FakeWandb(failing)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return wandb


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wandb = installed(monkeypatch)
    run = WandbRun("project", None, {"seed": 3}, tmp_path)
    run.log({"epoch": 0, "train/total": 1.5, "best": True, "note": "x", "val/total": None})
    run.log_image("losses", Path("a.png"), 0)
    assert run.running
    run.finish()
    run.finish()
    assert not run.running
    assert wandb.calls == [
        ("init", {"project": "project", "name": None, "config": {"seed": 3}, "dir": str(tmp_path)}),
        ("define_metric", ("*", "epoch")),
        ("log", {"epoch": 0, "train/total": 1.5}),
        ("log", {"losses": "image of a.png", "epoch": 0}),
        ("finish", None),
    ]


@pytest.mark.parametrize("failing", ["init", "define_metric", "log", "finish"])
def test_a_failure_is_one_warning(
    failing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    installed(monkeypatch, failing)
    run = WandbRun("project", "name", {}, tmp_path)
    for epoch in range(3):
        run.log({"epoch": epoch})
        run.log_image("losses", Path("a.png"), epoch)
    run.finish()
    assert not run.running
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "training goes on without it: Error: no network" in caplog.text


def test_a_missing_package_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = WandbRun("project", None, {}, tmp_path)
    run.log({"epoch": 0})
    run.log_image("losses", Path("a.png"), 0)
    run.finish()
    assert not run.running
    assert "jasper-rag[wandb]" in caplog.text


def test_a_package_that_is_something_else_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    assert not WandbRun("project", None, {}, tmp_path).running
    assert "AttributeError" in caplog.text


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wandb = installed(monkeypatch)
    run = WandbRun("project", None, {}, tmp_path)

    def stop(_values: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        run.log({"epoch": 0})
