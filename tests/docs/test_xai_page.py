from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from jasper_rag.explain.xai_interface import ALIASES, XAIInterface
from jasper_rag.models.jasper_predictor import JASPERPredictor


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs/nn/XAI_INTERFACE.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_code_blocks_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(found) >= 6
    for block in found:
        exec(compile(block, "XAI_INTERFACE.md", "exec"), names)
        assert capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"explanations.jsonl", "explanations.json", "explanation.png"}
    lines = (tmp_path / "explanations.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(json.loads((tmp_path / "explanations.json").read_text(encoding="utf-8"))) == 4


def rows(page: str, heading: str) -> set[str]:
    """First cells of the table with this heading, without their backquotes."""
    lines = page[page.index(f"| {heading} |") :].partition("\n\n")[0].splitlines()[2:]
    return {name for line in lines for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}


def test_every_key_is_described(page: str) -> None:
    question = torch.ones(4)
    known = [(question, question, question)]
    xai = XAIInterface(JASPERPredictor({"embedding_dim": 4}), torch.eye(4), list("abcd"), known)
    found = xai.explain_prediction(question)
    assert rows(page, "key | meaning | unit") == set(found) - set(ALIASES)
    assert all(f"`{alias}`" in page for alias in ALIASES)
    assert rows(page, "key of a similar pair | meaning") == set(found["similar_pairs"][0])
    compared = xai.compare_steering_influence(question, [None])
    assert rows(page, "key | of n steerings") == set(compared)
