"""The ONNX export: predictor and guard, gate included, as one graph from `query` [B, D] to `search` [B, D]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jasper_rag.atomic_files import replacing
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.export.query_map import QueryMap, agreement, probe_questions, query_map
from jasper_rag.jasper import Jasper

GRAPH = "predictor.onnx"
OPSET, IR_VERSION = 18, 10
"""Operators and file format that ONNX Runtime 1.18 and later read."""
_UNIT_TOLERANCE = 1e-3 + 1e-5
"""How far from 1 the length of a question may be that is not scaled: as in `Jasper.transform`."""


def write_onnx(jasper: Jasper, folder: Path) -> float:
    """Write the graph.

    Returns:
        The largest difference from `Jasper.transform`, measured with ONNX Runtime on the file just written.

    Raises:
        InputError: The extra `onnx` is not installed, or the predictor has an MLP.
    """
    onnx, runtime = _libraries()
    model = graph(onnx, query_map(jasper))
    onnx.checker.check_model(model, full_check=True)
    with replacing(folder / GRAPH) as temporary:
        temporary.write_bytes(model.SerializeToString())
    probes = probe_questions(jasper)
    session = runtime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    moved: Vectors = session.run(["search"], {"query": probes})[0]
    return agreement(moved, jasper.transform(probes), "the ONNX graph")


def _libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"the ONNX export needs {error.name}, which is not installed.",
            field="format",
            remedy='pip install "jasper-rag[onnx]"',
        ) from error
    return onnx, onnxruntime


def graph(onnx: ModuleType | Any, exported: QueryMap) -> Any:
    """The graph as an `onnx.ModelProto`; built node by node, so that it depends on no tracer.

    Args:
        onnx: The library.
        exported: What to express.
    """
    constants = _constants(exported)
    nodes = [*_unit_question(onnx), *_prediction(onnx), *_share(onnx, exported), *_blend(onnx)]
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = ["questions", exported.dimension]
    body = helper.make_graph(
        nodes,
        "jasper",
        [helper.make_tensor_value_info("query", kind, shape)],
        [helper.make_tensor_value_info("search", kind, shape)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
        doc_string="search = normalise((1 - s) query + s p), p = normalise(query M), s = alpha * gate(query)",
    )
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="jasper-rag"
    )
    helper.set_model_props(model, {"encoder": exported.identity.name, "alpha": f"{exported.alpha:g}"})
    return model


def _constants(exported: QueryMap) -> Mapping[str, NDArray[Any]]:
    scalars = {"zero": 0.0, "one": 1.0, "tiny": 1e-12, "tolerance": _UNIT_TOLERANCE, "alpha": exported.alpha}
    gate = exported.gate
    if gate is not None:
        scalars |= {"low": gate.low, "range": gate.high - gate.low}
    constants: dict[str, NDArray[Any]] = {name: np.array(value, dtype=np.float32) for name, value in scalars.items()}
    constants |= {"matrix": exported.matrix, "rows": np.array([1], dtype=np.int64)}
    if gate is not None:
        neighbours = min(gate.neighbours, len(gate.bank))
        constants |= {"bank": np.ascontiguousarray(gate.bank.T), "count": np.array([neighbours], dtype=np.int64)}
    return constants


def _unit(onnx: Any, vectors: str, name: str) -> list[Any]:
    """Rows of `vectors` scaled to unit length, as `name`; their lengths as `name_length`."""
    node = onnx.helper.make_node
    return [
        node("ReduceL2", [vectors, "rows"], [f"{name}_length"], keepdims=1),
        node("Max", [f"{name}_length", "tiny"], [f"{name}_divisor"]),
        node("Div", [vectors, f"{name}_divisor"], [name]),
    ]


def _unit_question(onnx: Any) -> list[Any]:
    """q: the questions as they are if all are of unit length, else all scaled."""
    node = onnx.helper.make_node
    return [
        *_unit(onnx, "query", "scaled"),
        node("Sub", ["scaled_length", "one"], ["excess"]),
        node("Abs", ["excess"], ["deviation"]),
        node("ReduceMax", ["deviation"], ["largest_deviation"], keepdims=0),
        node("Greater", ["largest_deviation", "tolerance"], ["is_off"]),
        node("Where", ["is_off", "scaled", "query"], ["q"]),
    ]


def _prediction(onnx: Any) -> list[Any]:
    return [onnx.helper.make_node("MatMul", ["q", "matrix"], ["predicted"]), *_unit(onnx, "predicted", "p")]


def _share(onnx: Any, exported: QueryMap) -> list[Any]:
    """s: the blend times the openness of the gate, [B, 1]; without a gate the blend alone, []."""
    node = onnx.helper.make_node
    if exported.gate is None:
        return [node("Identity", ["alpha"], ["s"])]
    return [
        node("MatMul", ["q", "bank"], ["cosines"]),
        node("TopK", ["cosines", "count"], ["nearest", "positions"], axis=1, sorted=0),
        node("ReduceMean", ["nearest", "rows"], ["familiarity"], keepdims=1),
        node("Sub", ["familiarity", "low"], ["above"]),
        node("Div", ["above", "range"], ["ramp"]),
        node("Clip", ["ramp", "zero", "one"], ["openness"]),
        node("Mul", ["openness", "alpha"], ["s"]),
    ]


def _blend(onnx: Any) -> list[Any]:
    node = onnx.helper.make_node
    return [
        node("Sub", ["one", "s"], ["kept"]),
        node("Mul", ["kept", "q"], ["kept_q"]),
        node("Mul", ["s", "p"], ["taken_p"]),
        node("Add", ["kept_q", "taken_p"], ["blended"]),
        *_unit(onnx, "blended", "moved"),
        node("Greater", ["s", "zero"], ["is_moved"]),
        node("Where", ["is_moved", "moved", "q"], ["search"]),
    ]
