"""Fit the guard: the blend by nDCG@10 on dev, the gate by dev quantiles, the corpus gate on the home corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.metrics.ranking import ndcg
from jasper_rag.metrics.significance import paired_randomisation
from jasper_rag.models.corpus_gate import CorpusGate, sampled_rows
from jasper_rag.models.guard import FamiliarityGate, Guard, mean_top_cosine
from jasper_rag.training.predictor_training_config import GuardConfig

FEWEST_UNSEEN = 20
"""With fewer documents that no train question asks for, the sources themselves say what is typical."""


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
    documents: DocumentVectors,
    config: GuardConfig,
    seed: int,
    *,
    labelled: int | None = None,
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
        documents: The whole corpus.
        config: Grid, quantiles, bank.
        seed: Of the bank's sample and the test.
        labelled: How many of the train questions, the first ones, people asked; sentences of documents only fill
            up what these leave of the bank. None: all of them.
    """
    open_guards = {a: Guard(a) for a in _grid(config.alpha_step)}
    values = {
        a: ndcg(documents.top_k(guard.blend(dev.vectors, predictions), 10)[1], dev.judgements, 10)
        for a, guard in open_guards.items()
    }
    curve = {a: float(v.mean()) for a, v in values.items()}
    # Best first by nDCG, the smaller alpha of equals: it moves the question less.
    alpha = min(curve, key=lambda a: (-curve[a], a))
    p_value = paired_randomisation(values[alpha], values[0.0], seed) if alpha > 0 else 1.0
    if p_value > config.significance:
        alpha = 0.0
    gate = _fit_gate(train_questions, labelled, dev.vectors, config, seed) if config.gate else None
    open_share = 1.0 if gate is None else float((gate.openness(dev.vectors) >= 1.0).mean())
    return FittedGuard(Guard(alpha, gate), curve, p_value, open_share)


def fit_corpus_gate(
    embedded: EmbeddedSet, questions: EmbeddedQueries, config: GuardConfig, seed: int
) -> CorpusGate | None:
    """The corpus gate of a home corpus; None where the settings switch it off.

    Its bank is a sample of the sources. What is typical is the median familiarity of the documents that no question
    trained on asks for; where there are hardly any, that of the bank's sources, each without itself. The home corpus is
    open by construction, and no judgements but those trained on take part.

    Args:
        embedded: The home corpus; with passages, each counts for itself.
        questions: Those trained on.
        config: Bank, ramp.
        seed: Of the bank's sample.
    """
    if not config.corpus_gate:
        return None
    vectors = embedded.vectors.vectors
    is_source = _source_rows(embedded, questions)
    bank = np.ascontiguousarray(vectors[_chosen(np.flatnonzero(is_source), config.bank_size, seed)])
    unseen = np.flatnonzero(~is_source)
    if len(unseen) >= FEWEST_UNSEEN:
        familiarity = mean_top_cosine(vectors[unseen[sampled_rows(len(unseen))]], bank, config.neighbours)
    else:
        familiarity = _among_themselves(bank, config.neighbours)
    return CorpusGate(bank, float(np.median(familiarity)), config.corpus_low, config.corpus_high, config.neighbours)


def _source_rows(embedded: EmbeddedSet, questions: EmbeddedQueries) -> NDArray[np.bool_]:
    """Which rows of the vectors belong to a source of `questions`, or to a document of the same text."""
    judgements = questions.judgements
    relevant = (judgements.grades > 0) & (judgements.documents >= 0)
    asked_for = embedded.text_group[judgements.documents[relevant]]
    documents = np.flatnonzero(np.isin(embedded.text_group, asked_for))
    is_source = np.zeros(len(embedded.vectors.vectors), dtype=np.bool_)
    is_source[embedded.vectors.rows_of(documents)[0]] = True
    return is_source


def _among_themselves(bank: Vectors, neighbours: int) -> Vectors:
    cosines = bank @ bank.T
    np.fill_diagonal(cosines, -1.0)
    count = min(neighbours, max(len(bank) - 1, 1))
    nearest: Vectors = np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1)
    return nearest


def _chosen(rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """At most `count` of `rows`, ascending."""
    chosen: NDArray[np.int64] = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    return chosen


def _grid(step: float) -> list[float]:
    return sorted({0.0, 1.0, *(round(float(a), 6) for a in np.arange(0.0, 1.0 + step / 2, step) if a <= 1.0)})


def _fit_gate(
    train_questions: Vectors, labelled: int | None, dev_questions: Vectors, config: GuardConfig, seed: int
) -> FamiliarityGate:
    asked = len(train_questions) if labelled is None else labelled
    chosen = _chosen(np.arange(asked), config.bank_size, seed)
    others = _chosen(np.arange(asked, len(train_questions)), config.bank_size - len(chosen), seed)
    bank = np.ascontiguousarray(train_questions[np.concatenate([chosen, others])])
    familiarity = mean_top_cosine(dev_questions, bank, config.neighbours)
    low, high = np.quantile(familiarity, [config.gate_low, config.gate_high])
    # Equal quantiles (a handful of dev questions, or identical ones) would leave no ramp.
    return FamiliarityGate(bank, float(low), float(max(high, low + 1e-6)), config.neighbours)
