from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers.base.modules import Module

from jasper_rag.embedding.encoder_identity import EncoderIdentity
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.export.query_map import QueryMap
from jasper_rag.export.stock_modules import query_modules
from jasper_rag.models.guard import FamiliarityGate, mean_top_cosine, unit

IDENTITY = EncoderIdentity(name="made up", dimension=32)


def guarded(exported: QueryMap, questions: Vectors) -> NDArray[np.float64]:
    """The guard's equation in float64."""
    q, matrix = questions.astype(np.float64), exported.matrix.astype(np.float64)
    share = np.full((len(q), 1), exported.alpha)
    if exported.gate is not None:
        gate = exported.gate
        count = min(gate.neighbours, len(gate.bank))
        nearest = np.sort(q @ gate.bank.T.astype(np.float64), axis=1)[:, -count:].mean(axis=1)
        share *= np.clip((nearest - gate.low) / (gate.high - gate.low), 0, 1)[:, None]
    p = q @ matrix
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    final = (1 - share) * q + share * p
    return np.asarray(final / np.linalg.norm(final, axis=1, keepdims=True))


def moved(modules: list[Module], questions: Vectors) -> Vectors:
    features = {"sentence_embedding": torch.from_numpy(questions)}
    with torch.inference_mode():
        for module in modules:
            features = module(features)
    return features["sentence_embedding"].numpy()


def made_up(seed: int, strength: float, alpha: float, neighbours: int, dim: int = 32) -> tuple[QueryMap, Vectors]:
    """A map q + q W with |W| about `strength`, and questions of every kind; no neighbours: no gate."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> Vectors:
        return generator.standard_normal(shape).astype(np.float32)

    bank, other = unit(normal(40, dim)), unit(normal(60, dim))
    axes = np.eye(dim, dtype=np.float32)
    questions = np.concatenate([bank, other, unit(bank + other[:40]), axes, -axes])
    gate = None
    if neighbours:
        low, high = np.quantile(mean_top_cosine(questions, bank, neighbours), [0.3, 0.7])
        gate = FamiliarityGate(bank, float(low), float(high), neighbours)
    matrix = axes + np.float32(strength / np.sqrt(dim)) * normal(dim, dim)
    return QueryMap(matrix, alpha, gate, IDENTITY), questions


@pytest.mark.parametrize("neighbours", [0, 1, 5, 100])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("strength", [0.01, 0.3, 4.0])
def test_the_modules_are_the_guard(strength: float, alpha: float, neighbours: int) -> None:
    exported, questions = made_up(int(strength * 100), strength, alpha, neighbours)
    difference = moved(query_modules(exported), questions) - guarded(exported, questions)
    assert np.abs(difference).max() < 5e-6


@pytest.mark.slow
def test_a_hundred_maps() -> None:
    worst = 0.0
    for seed in range(100):
        generator = np.random.default_rng([seed, 1])
        alpha, strength = float(generator.uniform(0.05, 1)), float(generator.uniform(0, 2))
        exported, questions = made_up(seed, strength, alpha, int(generator.integers(0, 8)), dim=12)
        difference = moved(query_modules(exported), questions) - guarded(exported, questions)
        worst = max(worst, float(np.abs(difference).max()))
    assert worst < 1e-5


def test_simple_maps_stay_simple() -> None:
    assert query_modules(made_up(0, 0.3, 0.0, 5)[0]) == []
    assert [type(module).__name__ for module in query_modules(made_up(0, 0.3, 1.0, 0)[0])] == ["Dense", "Normalize"]


def test_every_module_is_stock() -> None:
    modules = query_modules(made_up(0, 0.3, 0.5, 5)[0])
    assert {type(module).__module__.split(".")[0] for module in modules} == {"sentence_transformers"}
