"""Fit the guard on the dev split: the blend by nDCG@10, the gate by quantiles of familiarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.ranking import ndcg
from jasper_rag.metrics.significance import paired_randomisation
from jasper_rag.metrics.topk import top_k
from jasper_rag.models.guard import FamiliarityGate, Guard, mean_top_cosine
from jasper_rag.training.predictor_training_config import GuardConfig


@dataclass(frozen=True, slots=True)
class FittedGuard:
    """The guard and what decided it.

    Args:
        guard: What ships.
        curve: alpha -> dev nDCG@10 without the gate.
        p_value: Of the best alpha against the plain encoder on dev (1.0 when the best alpha is 0).
        open_share: Share of dev questions whose gate is fully open.
    """

    guard: Guard
    curve: dict[float, float]
    p_value: float
    open_share: float


def fit_guard(
    train_questions: Vectors,
    dev: EmbeddedQueries,
    predictions: Vectors,
    documents: Vectors,
    config: GuardConfig,
    seed: int,
) -> FittedGuard:
    """Choose a, then the gate.

    a is the grid value with the best dev nDCG@10 (the smaller of equals); it falls back to 0, the plain encoder, when
    the paired randomisation test cannot tell the two apart on dev. The gate is closed below the `gate_low` quantile
    of the dev questions' familiarity and fully open above `gate_high`: dev questions were not trained on, so their
    familiarity is what new questions of the same kind look like.

    Args:
        train_questions: float32 [Q, D] unit rows.
        dev: The dev queries.
        predictions: float32 [Qdev, D], the predictor's answers to them.
        documents: float32 [N, D].
        config: Grid, quantiles, bank.
        seed: Of the bank's sample and the test.
    """
    open_guards = {a: Guard(a) for a in _grid(config.alpha_step)}
    values = {
        a: ndcg(top_k(guard.blend(dev.vectors, predictions), documents, 10)[1], dev.judgements, 10)
        for a, guard in open_guards.items()
    }
    curve = {a: float(v.mean()) for a, v in values.items()}
    # Best first by nDCG, the smaller alpha of equals: it moves the question less.
    alpha = min(curve, key=lambda a: (-curve[a], a))
    p_value = paired_randomisation(values[alpha], values[0.0], seed) if alpha > 0 else 1.0
    if p_value > config.significance:
        alpha = 0.0
    gate = _fit_gate(train_questions, dev.vectors, config, seed) if config.gate else None
    open_share = 1.0 if gate is None else float((gate.openness(dev.vectors) >= 1.0).mean())
    return FittedGuard(Guard(alpha, gate), curve, p_value, open_share)


def _grid(step: float) -> list[float]:
    return sorted({0.0, 1.0, *(round(float(a), 6) for a in np.arange(0.0, 1.0 + step / 2, step) if a <= 1.0)})


def _fit_gate(train_questions: Vectors, dev_questions: Vectors, config: GuardConfig, seed: int) -> FamiliarityGate:
    chosen = np.random.default_rng(seed).permutation(len(train_questions))[: config.bank_size]
    bank = np.ascontiguousarray(train_questions[np.sort(chosen)])
    familiarity = mean_top_cosine(dev_questions, bank, config.neighbours)
    low, high = np.quantile(familiarity, [config.gate_low, config.gate_high])
    # Equal quantiles (a handful of dev questions, or identical ones) would leave no ramp.
    return FamiliarityGate(bank, float(low), float(max(high, low + 1e-6)), config.neighbours)
