"""Train a finished predictor to follow a topic: its question map stays as it is, bit for bit; the steering map learns.

    p = q + q W + s V,   s = (c - q) / |c - q|,   W frozen, V from 0

with c the centroid of the topic of the answer. All train pairs are steered, so V learns what a topic says beyond the
question; asked without a topic (s = 0) the predictor is the one it was before. Training V and W together, with half of
the pairs steered, costs the unsteered predictor something, and gains nothing for the steered one (docs/lab_log.md).
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jasper_rag.data.curriculum import Curriculum
from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.metrics.ranking import evaluate
from jasper_rag.models.predictors import Predictor, require_plain
from jasper_rag.models.topics import Topics, answer_topics, steering_to_topics
from jasper_rag.training.batch_source import PairBatches
from jasper_rag.training.predictor_training import ramp_trainer
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.retrieval_validation import DEPTH, Predict, Project
from jasper_rag.training.training_pairs import TrainingPairs

_ALL_STEERED = Curriculum(base=(0.0, 1.0, 0.0, 0.0))
_METRIC = f"ndcg@{DEPTH}"
_EVALUATIONS = 10
"""Dev evaluations spread over the steps."""


@dataclass(frozen=True, slots=True)
class TrainedGuidance:
    """A predictor that may be steered.

    Args:
        model: The predictor given, with its steering map trained; that is 0 where dev does not gain by it.
        dev_ndcg_zero: nDCG@10 on dev, ungated, without steering.
        dev_ndcg_guided: The same, steered to the topic of each answer.
        cpu_seconds: CPU time of this process, evaluations included.
    """

    model: Predictor
    dev_ndcg_zero: float
    dev_ndcg_guided: float
    cpu_seconds: float

    @property
    def steers(self) -> bool:
        """Whether steering moves a prediction at all."""
        return self.model.steers


class GuidedRetrieval:
    """Ranks a whole corpus for the questions of a split, each steered to the topic of its answer.

    Args:
        queries: Questions and judgements.
        documents: The corpus.
        topics: Of its documents.
    """

    def __init__(self, queries: EmbeddedQueries, documents: DocumentVectors, topics: Topics) -> None:
        questions = np.ascontiguousarray(queries.vectors, dtype=np.float32)
        answers = answer_topics(queries.judgements, topics.assignment)
        self._judgements = queries.judgements
        self._documents = documents
        self._questions = torch.from_numpy(questions)
        self._steering = torch.from_numpy(steering_to_topics(questions, answers, topics.centroids))

    def __call__(self, predict: Predict, project: Project | None = None) -> dict[str, float]:
        """{"ndcg@10"}, of steered questions.

        Raises:
            ValueError: The sources are projected; this corpus is searched as it is.
        """
        if project is not None:
            raise ValueError("GuidedRetrieval searches its documents as they are")
        ranked = self._documents.top_k(predict(self._questions, self._steering).numpy(), DEPTH)[1]
        return {_METRIC: evaluate(ranked, self._judgements, {"ndcg": (DEPTH,)})[_METRIC]}


def train_guidance(
    model: Predictor,
    pairs: TrainingPairs,
    pair_topics: NDArray[np.int64],
    topics: Topics,
    dev: EmbeddedQueries,
    documents: DocumentVectors,
    config: PredictorTrainingConfig,
    seed: int,
) -> TrainedGuidance:
    """Train the steering map alone, by the softmax over all train sources; dev nDCG@10 decides where to stop.

    Args:
        model: Trained, plain, with a linear path; left as it is.
        pairs: The train split.
        pair_topics: int64 [P], the topic of each pair's source.
        topics: Of the documents.
        dev: Questions that decide; never trained on.
        documents: The whole corpus.
        config: Steps, rates, patience.
        seed: Same seed, same weights on a CPU with the same number of threads.

    Raises:
        ValueError: The model is not plain or has no linear path, or there are not as many topics as pairs.
    """
    if not model.config.linear_path:
        raise ValueError("a predictor without a linear path has no steering map.")
    if len(pair_topics) != len(pairs):
        raise ValueError(f"{len(pair_topics)} topics for {len(pairs)} pairs.")
    started = time.process_time()
    steered = copy.deepcopy(require_plain(model))
    steered.requires_grad_(False)
    nn.init.zeros_(steered.steering_map.weight)
    steered.steering_map.requires_grad_(True)
    centroids = torch.from_numpy(np.ascontiguousarray(topics.centroids))
    source = PairBatches(
        pairs, config.batch_size, seed, clusters=pair_topics, centroids=centroids, curriculum=_ALL_STEERED
    )
    asked_less = config.model_copy(update={"evaluations": _EVALUATIONS})
    guided_dev = GuidedRetrieval(dev, documents, topics)
    trainer = ramp_trainer(steered, steered.steering_map, source, guided_dev, asked_less, seed)
    zero = trainer.validate()[_METRIC]
    trainer.fit()
    trainer.load_best()
    guided = trainer.best_metric[1]
    assert guided is not None
    steered.requires_grad_(True)
    return TrainedGuidance(steered.eval(), zero, guided, time.process_time() - started)
