from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.jasper import Jasper

Command = Callable[..., Any]

QUESTIONS = ["automobile or physician or road?", "movie or rock"]


def test_the_numpy_predictor(jasper: Command, run: Path, tmp_path: Path) -> None:
    outcome = jasper("export", "--run", run, "--to", tmp_path / "to", "--format", "numpy")
    assert outcome.code == 0
    assert outcome.out.startswith("numpy: differs from JASPER by at most ")
    assert outcome.out.count("\n") == 1
    assert outcome.err == f"\nhow to use them: {tmp_path}/to/README.md\n"
    assert (tmp_path / "to" / "jasper_predictor.py").is_file()


@pytest.mark.slow
def test_the_sentence_transformers_model_searches_as_the_run_does(jasper: Command, run: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    arguments = ("--to", tmp_path / "to", "--format", "sentence-transformers", "--quiet", "--offline")
    outcome = jasper("export", "--run", run / "model", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    loaded = Jasper.load(run)
    model = SentenceTransformer(str(tmp_path / "to"), device="cpu")
    expected = loaded.transform(loaded.encoder.encode(QUESTIONS, "query"))
    np.testing.assert_allclose(model.encode_query(QUESTIONS), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.encode(["car road"]), loaded.encoder.encode(["car road"], "document"), atol=1e-5)


@pytest.mark.slow
def test_whatever_can_be_made_is_made(
    jasper: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    outcome = jasper("export", "--run", run, "--to", tmp_path / "to", "--json")
    assert outcome.code == 0
    answer = json.loads(outcome.out)
    assert answer["directory"] == str(tmp_path / "to")
    assert list(answer["differences"]) == list(answer["files"]) == ["numpy", "sentence-transformers"]
    assert list(answer["left_out"]) == ["onnx"]
    assert (
        'left out: onnx: [format]: the ONNX export needs onnx, which is not installed.\n  pip install "j' in outcome.err
    )


@pytest.mark.slow
def test_all_means_all(jasper: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    outcome = jasper("export", "--run", run, "--to", tmp_path / "to", "--format", "all")
    assert (outcome.code, outcome.out) == (2, "")
    assert 'pip install "jasper-rag[onnx]"' in outcome.err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "NOWHERE", "--to", "NEW"], "there is no trained model here"),
        (["--run", "RUN", "--to", "RUN"], "holds something that is not an export"),
        (["--run", "RUN", "--to", "NEW", "--format", "tflite"], "'tflite' is not one of"),
        (["--run", "RUN"], "Missing option '--to'"),
    ],
)
def test_bad_requests(jasper: Command, run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    places = {"RUN": run, "NOWHERE": tmp_path / "nowhere", "NEW": tmp_path / "new"}
    outcome = jasper("export", *(places.get(argument, argument) for argument in arguments))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "new").exists()
