from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.explain.xai_interface import XAIInterface
from jasper_rag.explain.xai_output import plain_values, told_apart

FOUND: list[dict[str, Any]] = [
    {"primary_subspace": "Łódź", "confidence": 0.5, "coarse_vector": None, "similar_pairs": [{"index": 1}]},
    {"primary_subspace": "two\nlines", "confidence": 1.0, "coarse_vector": [0.25, -1.0], "similar_pairs": []},
]


def test_a_list_is_read_back(tmp_path: Path) -> None:
    XAIInterface.save_xai_outputs(FOUND, tmp_path / "new" / "all.json")
    text = (tmp_path / "new" / "all.json").read_text(encoding="utf-8")
    assert json.loads(text) == FOUND
    assert text.startswith('[\n  {\n    "primary_subspace": "Łódź"')


def test_lines_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "all.JSONL"
    XAIInterface.save_xai_outputs(FOUND, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == FOUND
    XAIInterface.save_xai_outputs([], path)
    assert path.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("name", ["all.json", "all.jsonl"])
def test_what_is_no_number_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    XAIInterface.save_xai_outputs(FOUND, tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        XAIInterface.save_xai_outputs([{"confidence": float("nan")}], tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_values_are_plain_and_short() -> None:
    assert plain_values(torch.tensor([[0.1, 1 / 3], [2.0, 0.0]])) == [[0.1, 0.3333333], [2.0, 0.0]]


def test_equal_names_are_told_apart() -> None:
    assert told_apart(["a", "b", "a", "a #3", "a"]) == ("a", "b", "a #3", "a #3 #4", "a #5")
