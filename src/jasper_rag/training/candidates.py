"""Several ways to train one predictor; held-out questions pick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.text.training_questions import PSEUDO, PSEUDO_DEV
from jasper_rag.training.predictor_training import TrainedPredictor, train_predictor
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.training_pairs import training_pairs

LABELLED, PSEUDO_ALONE, PSEUDO_FIRST = "labelled", "pseudo", "pseudo, then labelled"

HALF_WAY = 0.5
"""Share kept of a map trained on pseudo-questions: these quote their documents, so all of it goes too far."""

FEWEST_REAL, FILLED = 60, 300
"""With fewer dev questions than the first number, held-out pseudo-questions fill them up to the second."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What was trained and what was picked.

    Args:
        chosen: Name of the best.
        trained: Its predictor.
        questions: The questions it was trained on; what the gate calls familiar.
        labelled: How many of these, the first ones, people asked.
        dev: The questions that decided: the dev split and, where pseudo-questions stand beside too few of them,
            held-out ones of these.
        dev_ndcg: Name -> nDCG@10 on `dev`, ungated, of each.
        cpu_seconds: Of all of them together.
    """

    chosen: str
    trained: TrainedPredictor
    questions: EmbeddedQueries
    labelled: int
    dev: EmbeddedQueries
    dev_ndcg: Mapping[str, float]
    cpu_seconds: float


def train_candidates(
    embedded: EmbeddedSet, config: PredictorTrainingConfig, seed: int, *, pseudo_only: bool = False
) -> Candidates:
    """Train on labelled questions from the identity and, where there are pseudo-questions, from what these taught.

    Pseudo-questions train a map of which half is kept; labelled questions go on from there.

    Args:
        embedded: With train, dev, and perhaps `PSEUDO` and `PSEUDO_DEV`.
        config: Of the training on labelled questions; pseudo-questions get half the batch and half the steps.
        seed: Of the training.
        pseudo_only: Train and dev hold pseudo-questions alone.
    """
    train, dev = embedded.splits["train"], embedded.splits["dev"]
    if pseudo_only:
        alone = _train_half_way(embedded, train, dev, config, seed)
        return _picked({PSEUDO_ALONE: alone}, PSEUDO_ALONE, train, 0, dev, alone.cpu_seconds)
    if PSEUDO not in embedded.splits:
        trained = {LABELLED: _train(embedded, train, dev, config, seed)}
        return _picked(trained, LABELLED, train, len(train), dev, trained[LABELLED].cpu_seconds)
    pseudo, held_out = embedded.splits[PSEUDO], embedded.splits[PSEUDO_DEV]
    taught = _train_half_way(embedded, pseudo, held_out, config, seed)
    dev = _filled(dev, held_out, seed)
    trained = {
        LABELLED: _train(embedded, train, dev, config, seed),
        PSEUDO_FIRST: _train(embedded, train, dev, config, seed, start=taught),
    }
    # The first of equals: fewer questions.
    chosen = max(trained, key=lambda name: trained[name].best_ndcg)
    questions = train if chosen == LABELLED else train.followed_by(pseudo)
    seconds = taught.cpu_seconds + sum(one.cpu_seconds for one in trained.values())
    return _picked(trained, chosen, questions, len(train), dev, seconds)


def _picked(
    trained: Mapping[str, TrainedPredictor],
    chosen: str,
    questions: EmbeddedQueries,
    labelled: int,
    dev: EmbeddedQueries,
    cpu_seconds: float,
) -> Candidates:
    scores = {name: one.best_ndcg for name, one in trained.items()}
    return Candidates(chosen, trained[chosen], questions, labelled, dev, scores, cpu_seconds)


def _train(
    embedded: EmbeddedSet,
    questions: EmbeddedQueries,
    dev: EmbeddedQueries,
    config: PredictorTrainingConfig,
    seed: int,
    *,
    start: TrainedPredictor | None = None,
    strength: float = 1.0,
) -> TrainedPredictor:
    pairs = training_pairs(replace(embedded, splits={"train": questions}))
    predictor = JASPERPredictorConfig(embedding_dim=embedded.vectors.dimension, mlp=False)
    model = None if start is None else start.model
    return train_predictor(pairs, dev, embedded.vectors, predictor, config, seed, start=model, strength=strength)


def _train_half_way(
    embedded: EmbeddedSet,
    pseudo: EmbeddedQueries,
    held_out: EmbeddedQueries,
    config: PredictorTrainingConfig,
    seed: int,
) -> TrainedPredictor:
    # There are many of them and only a rough map is wanted: a quarter of the work gives the same.
    halved = {"batch_size": max(1, config.batch_size // 2), "steps": max(1, config.steps // 2)}
    quick = config.model_copy(update=halved)
    return _train(embedded, pseudo, held_out, quick, seed, strength=HALF_WAY)


def _filled(dev: EmbeddedQueries, held_out: EmbeddedQueries, seed: int) -> EmbeddedQueries:
    missing = FILLED - len(dev) if len(dev) < FEWEST_REAL else 0
    rows = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:missing])
    if not len(rows):
        return dev
    ids, texts = (tuple(named[row] for row in rows) for named in (held_out.ids, held_out.texts))
    return dev.followed_by(EmbeddedQueries(ids, texts, held_out.vectors[rows], held_out.judgements.select(rows)))
