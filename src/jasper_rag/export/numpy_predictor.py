"""The numpy export: matrix and bank in safetensors, the rest as JSON, and the one Python file that reads them."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from jasper_rag.atomic_files import write_json
from jasper_rag.export import standalone_predictor
from jasper_rag.export.query_map import QueryMap, agreement, probe_questions, query_map
from jasper_rag.jasper import Jasper

TENSORS, SETTINGS, LOADER = "predictor.safetensors", "predictor.json", "jasper_predictor.py"
FORMAT_VERSION = 1
_TOLERANCE = 1e-6


def write_numpy(jasper: Jasper, folder: Path) -> float:
    """Write tensors, settings and loader.

    Returns:
        The largest difference from `Jasper.transform`, measured on the files just written.

    Raises:
        InputError: The predictor has an MLP.
    """
    exported = query_map(jasper)
    tensors = {"matrix": np.ascontiguousarray(exported.matrix)}
    if exported.gate is not None:
        tensors["bank"] = np.ascontiguousarray(exported.gate.bank)
    save_file(tensors, folder / TENSORS)
    write_json(folder / SETTINGS, settings(exported))
    shutil.copyfile(standalone_predictor.__file__, folder / LOADER)
    probes = probe_questions(jasper)
    moved = standalone_predictor.Predictor(folder).transform(probes)
    return agreement(moved, jasper.transform(probes), "the numpy predictor", _TOLERANCE)


def settings(exported: QueryMap) -> dict[str, object]:
    """What is not a tensor, as plain values."""
    gate = exported.gate
    return {
        "format_version": FORMAT_VERSION,
        "dimension": exported.dimension,
        "encoder": asdict(exported.identity),
        "alpha": exported.alpha,
        "gate": None if gate is None else {"low": gate.low, "high": gate.high, "neighbours": gate.neighbours},
    }
