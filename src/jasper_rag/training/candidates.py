"""Several ways to train one predictor; dev picks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.text.training_questions import PSEUDO
from jasper_rag.training.predictor_training import TrainedPredictor, train_predictor
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.training_pairs import training_pairs

LABELLED = "labelled"


@dataclass(frozen=True, slots=True)
class Candidates:
    """What was trained and what dev picked.

    Args:
        chosen: Name of the best.
        trained: Its predictor.
        questions: The questions it was trained on; what the gate calls familiar.
        dev_ndcg: Name -> dev nDCG@10, ungated, of each.
        cpu_seconds: Of all of them together.
    """

    chosen: str
    trained: TrainedPredictor
    questions: EmbeddedQueries
    dev_ndcg: Mapping[str, float]
    cpu_seconds: float


def train_candidates(embedded: EmbeddedSet, config: PredictorTrainingConfig, seed: int) -> Candidates:
    """Train on the train split and, where there is a split of pseudo-questions, on both; keep the better on dev.

    Args:
        embedded: With train, dev, and perhaps `PSEUDO`.
        config: Of the training.
        seed: Of the training.
    """
    questions = {LABELLED: embedded.splits["train"]}
    if PSEUDO in embedded.splits:
        questions["labelled and pseudo"] = embedded.splits["train"].followed_by(embedded.splits[PSEUDO])
    predictor = JASPERPredictorConfig(embedding_dim=embedded.vectors.dimension, mlp=False)
    trained = {}
    for name, asked in questions.items():
        pairs = training_pairs(replace(embedded, splits={"train": asked}))
        trained[name] = train_predictor(pairs, embedded.splits["dev"], embedded.vectors, predictor, config, seed)
    # The first of equals: fewer questions.
    chosen = max(trained, key=lambda name: trained[name].best_ndcg)
    return Candidates(
        chosen,
        trained[chosen],
        questions[chosen],
        {name: one.best_ndcg for name, one in trained.items()},
        sum(one.cpu_seconds for one in trained.values()),
    )
