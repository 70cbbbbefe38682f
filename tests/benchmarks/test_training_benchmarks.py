from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from jasper_rag.training.run_config import load_run_config


@pytest.fixture(autouse=True)
def _threads() -> object:
    """The benchmarks set the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def benchmark(repository: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", repository / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_an_epoch_is_measured_beside_its_products(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = "--pairs 200 --dimension 8 --hidden-dim 8 --layers 2 --negatives 2 --batch-size 32 --rounds 1 --threads 1"
    monkeypatch.setattr(sys, "argv", ["training.py", *sizes.split()])
    benchmark(repository, "training").main()
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^\| (\w+) \| [\d.]+ \| [\d,]+ \| ([\d.]+) \|$", printed, re.MULTILINE))
    assert set(rows) == {"trainer", "products", "plain"}
    assert float(rows["products"]) == 1.0
    assert float(rows["trainer"]) > 1.0
    # 200 pairs, 80 % of them to train on, the last batch full: 5 steps.
    assert "5 steps" in printed
    assert re.search(r"waits for batches: \d+\.\d%", printed)


def test_every_row_of_the_ablation_is_a_change_that_can_be_trained(repository: Path) -> None:
    module = benchmark(repository, "ablation")
    base = load_run_config(None, {k: v for k, v in module.BASE.items() if k != "steering.probabilities"})
    for name, changes in module.ROWS.items():
        given = {**module.BASE, **changes}
        shares = given.pop("steering.probabilities")
        changed = load_run_config(None, given)
        assert changed != base or shares != module.BASE["steering.probabilities"] or name == "all of it"


@pytest.mark.slow
def test_the_ablation_prints_a_row_per_setting(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    benchmark(repository, "dataset").write_dataset(dataset, 200, 8, 2, 0)
    output = tmp_path / "ablation.json"
    arguments = ["--dataset-dir", str(dataset), "--seeds", "0", "1", "--epochs", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *arguments])
    module = benchmark(repository, "ablation")
    module.main()
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in module.ROWS)
    assert {name: len(runs) for name, runs in json.loads(output.read_text()).items()} == dict.fromkeys(module.ROWS, 2)
