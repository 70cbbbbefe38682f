from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.export.onnx_predictor import GRAPH, IR_VERSION, OPSET, write_onnx
from jasper_rag.jasper import Jasper


def session(folder: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_graph_is_transform(
    with_guard: Callable[..., Jasper], questions: Vectors, tmp_path: Path, alpha: float, gated: bool
) -> None:
    pytest.importorskip("onnx")
    jasper = with_guard(alpha, gated)
    assert write_onnx(jasper, tmp_path) <= 1e-5
    graph = session(tmp_path)
    for given in (questions, questions[:1], questions * 7, questions * np.float32(1.0005)):
        moved = graph.run(["search"], {"query": given})[0]
        assert moved.dtype == np.float32
        np.testing.assert_allclose(moved, jasper.transform(given), rtol=0, atol=1e-5)


def test_what_the_graph_says_of_itself(fitted: Jasper, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    write_onnx(fitted, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [GRAPH]
    model = onnx.load(tmp_path / GRAPH)
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
    assert {entry.key: entry.value for entry in model.metadata_props}["encoder"] == "words-0"
    graph = session(tmp_path)
    for value, name in ((graph.get_inputs()[0], "query"), (graph.get_outputs()[0], "search")):
        assert (value.name, value.shape, value.type) == (name, ["questions", 24], "tensor(float)")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_extra_is_named(
    fitted: Jasper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=f"needs {missing}, which is not installed") as caught:
        write_onnx(fitted, tmp_path)
    assert caught.value.remedy == 'pip install "jasper-rag[onnx]"'
    assert not any(tmp_path.iterdir())
