from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def transfer(repository: Path) -> ModuleType:
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("transfer_benchmark", repository / "benchmarks" / "transfer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(transfer: ModuleType, name: str, plain: float, ungated: float, ships: float, p: float) -> dict[str, Any]:
    systems = {
        "plain": {"ndcg@10": plain, "p_value": None},
        "jasper_ungated": {"ndcg@10": ungated, "p_value": p},
        "jasper": {"ndcg@10": ships, "p_value": p},
        "fusion": {"ndcg@10": 0.5},
        "hybrid": {"ndcg@10": 0.6},
    }
    found: dict[str, Any] = transfer.row_of(name, {"questions": 10, "corpus_openness": 0.25, "systems": systems})
    return found


def test_summary_and_table_tell_home_from_elsewhere(transfer: ModuleType) -> None:
    rows = [
        row(transfer, "home", 0.4, 0.5, 0.48, 0.001),
        row(transfer, "harmed", 0.6, 0.5, 0.59, 0.01),
        row(transfer, "helped", 0.6, 0.7, 0.61, 0.01),
        row(transfer, "unclear", 0.6, 0.54, 0.6, 0.2),
    ]
    found = transfer.summary(rows)
    assert found["own_gain_kept"] == pytest.approx(0.8)
    assert found["mean_loss"] == pytest.approx({"ungated": 0.02, "ships": 0.0})
    assert found["significantly_below"] == {"ungated": ["harmed"], "ships": ["harmed"]}
    lines = transfer.table("home", rows).splitlines()
    assert "| home (its own) | 0.25 | 0.4000 | 0.5000 | 0.0010 | 0.4800 | 0.0010 | 0.5000 | 0.6000 |" in lines
    assert lines[-1] == "At home: 80% of the gain kept."
    assert "Elsewhere, ships: mean loss +0.0000, significantly below plain: harmed." in lines


def test_no_gain_at_home_and_nothing_else_asked(transfer: ModuleType) -> None:
    found = transfer.summary([row(transfer, "home", 0.4, 0.4, 0.4, 1.0)])
    assert found == {
        "own_gain_kept": None,
        "mean_loss": {"ungated": 0.0, "ships": 0.0},
        "significantly_below": {"ungated": [], "ships": []},
    }
    assert transfer.table("home", [row(transfer, "home", 0.4, 0.4, 0.4, 1.0)]).endswith("no gain to keep.")
