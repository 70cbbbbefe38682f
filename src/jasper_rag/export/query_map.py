"""What becomes of a question between encoder and search, as plain numbers: all that an export has to carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.models.guard import FamiliarityGate, Guard, unit
from jasper_rag.models.predictors import Predictor, linear_paths

TOLERANCE = 1e-5
"""Largest difference between an exported number and that of `Jasper.transform` that is put up with."""
_PROBES = 48
"""Vectors of each kind that an export is checked on."""


@dataclass(frozen=True, slots=True)
class QueryMap:
    """From a question q of unit length to the vector to search with.

        final = normalise((1 - s) q + s p),   p = q M / |q M|,   s = a g(q)

    Args:
        matrix: M, float32 [D, D]: residual path and linear path in one.
        alpha: a, the blend in [0, 1].
        gate: g, the familiarity gate; None where every question is fully open, or where a = 0 makes it idle.
        identity: Of the encoder that the questions have to come from.
    """

    matrix: Vectors
    alpha: float
    gate: FamiliarityGate | None
    identity: EncoderIdentity

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.matrix.shape[0])


def query_map(jasper: Jasper) -> QueryMap:
    """The map of a fitted model.

    Raises:
        InputError: The predictor is more than linear paths, which no export can express.
    """
    guard: Guard = jasper.model.serving_guard
    gate = guard.gate if guard.alpha > 0 else None
    return QueryMap(_matrix(jasper.model.predictor), guard.alpha, gate, jasper.model.identity)


def _matrix(predictor: Predictor) -> Vectors:
    linear = linear_paths(predictor)
    if linear is None:
        found = "has an MLP" if predictor.config.mlp else "routes without a residual path"
        raise InputError(
            f"this predictor {found}; only linear predictors can be exported.",
            field="predictor.mlp" if predictor.config.mlp else "predictor.residual",
            remedy="Export a model that `jasper fit` made, or serve this one with Jasper.transform.",
        )
    config = linear.config
    matrix = np.zeros((config.embedding_dim, config.embedding_dim), dtype=np.float32)
    if config.residual:
        matrix += np.eye(config.embedding_dim, dtype=np.float32)
    if config.linear_path:
        matrix += linear.question_map.weight.detach().cpu().numpy().T
    return matrix


def probe_questions(jasper: Jasper) -> Vectors:
    """Unit vectors to check an export on, float32 [n, D]: questions trained on, documents, and random directions.

    They reach the open, the half-open and the closed gate.
    """
    documents = jasper.model.vectors.vectors
    directions = np.random.default_rng(0).standard_normal((_PROBES, documents.shape[1])).astype(np.float32)
    parts = [documents[:_PROBES], unit(directions)]
    gate = jasper.model.guard.gate
    if gate is not None:
        parts += [gate.bank[:_PROBES], unit(gate.bank[:_PROBES] + unit(directions)[: len(gate.bank)])]
    return np.concatenate(parts).astype(np.float32, copy=False)


def agreement(exported: Vectors, expected: Vectors, what: str, tolerance: float = TOLERANCE) -> float:
    """Largest absolute difference of two arrays of vectors.

    Raises:
        InputError: It is above `tolerance`: what was exported would not be this model.
    """
    difference = float(np.abs(exported - expected).max(initial=0.0))
    if not difference <= tolerance:
        raise InputError(
            f"{what} would differ from this model by up to {difference:.1e}; at most {tolerance:.0e} is allowed.",
            field="format",
            remedy="Export another format; numpy carries every number as it is.",
        )
    return difference
