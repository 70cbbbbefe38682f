"""Question embeddings in, search embeddings out. Needs numpy and safetensors, nothing else.

    from jasper_predictor import Predictor
    search = Predictor().transform(questions)  # float32 [n, D] -> float32 [n, D], rows of unit length

`questions` come from the encoder named in predictor.json; the vectors in your database stay as they are.

    final = normalise((1 - s) q + s p)    p = normalise(q M)    s = alpha * clip((f - low) / (high - low), 0, 1)
    f = mean of the highest cosines between q and the bank, a sample of the questions that were trained on
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file


class Predictor:
    """`predictor.json` and `predictor.safetensors` of a folder; by default the folder that this file lies in."""

    def __init__(self, folder: str | Path = Path(__file__).parent) -> None:
        self.settings = json.loads(Path(folder, "predictor.json").read_text(encoding="utf-8"))
        if self.settings["format_version"] != 1:
            raise ValueError(f"this file reads format 1, {folder} holds format {self.settings['format_version']}.")
        self.tensors = load_file(Path(folder, "predictor.safetensors"))

    def transform(self, questions: Any) -> Any:
        """Turn questions [n, D], scaled to unit length where they are not, into the vectors to search with."""
        q = np.ascontiguousarray(questions, dtype=np.float32)
        matrix, gate = self.tensors["matrix"], self.settings["gate"]
        if q.ndim != 2 or q.shape[1] != len(matrix):
            raise ValueError(f"expected vectors of shape [n, {len(matrix)}], got {list(q.shape)}.")
        if not np.allclose(np.linalg.norm(q, axis=1), 1.0, atol=1e-3):
            q = unit(q)
        share = np.full((len(q), 1), self.settings["alpha"], dtype=np.float32)
        if gate:
            count = min(gate["neighbours"], len(self.tensors["bank"]))
            nearest = np.partition(q @ self.tensors["bank"].T, -count, axis=1)[:, -count:]
            familiarity = nearest.mean(axis=1, keepdims=True)
            share *= np.clip((familiarity - gate["low"]) / (gate["high"] - gate["low"]), 0.0, 1.0)
        return np.where(share > 0, unit((1.0 - share) * q + share * unit(q @ matrix)), q).astype(np.float32)


def unit(vectors: Any) -> Any:
    """Rows scaled to unit length; a zero row stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
