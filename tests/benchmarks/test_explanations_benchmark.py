from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch


@pytest.mark.slow
def test_every_way_to_ask_is_measured(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    names = runpy.run_path(str(repository / "benchmarks" / "explanations.py"))
    sizes = "--questions 12 --pairs 20 --dimension 8 --subspaces 3 --rounds 1 --threads 1"
    try:
        names["main"]([*sizes.split(), "--output", str(tmp_path / "figures.json")])
    finally:
        torch.set_num_threads(threads)
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert len(figures["ways"]) == 6
    for way in figures["ways"]:
        assert way["per_second"] > 0
        assert f"| {way['way']} |" in printed
