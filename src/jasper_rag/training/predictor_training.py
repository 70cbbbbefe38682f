"""Train the predictor on cached embeddings; keep the weights with the best dev nDCG@10."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.losses.jasper_losses import JASPERMultiObjectiveLoss
from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.models.ema_encoder import EMAEncoder
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.predictors import Predictor, linear_paths, require_plain
from jasper_rag.training.batch_source import PairBatches
from jasper_rag.training.jasper_trainer import JASPERTrainer
from jasper_rag.training.jasper_trainer_config import JASPERTrainerConfig
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.retrieval_validation import RetrievalValidation, SplitRetrieval
from jasper_rag.training.schedules import build_scheduler
from jasper_rag.training.training_pairs import TrainingPairs

HistoryRow = dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainedPredictor:
    """What training leaves behind.

    Args:
        model: The predictor with the best dev weights (the identity, if nothing beat the question alone).
        history: One row per evaluation: step, epoch, train/total, train/lr, val/ndcg@10, val/ndcg@10_question.
        best_ndcg: Dev nDCG@10 of `model`, unguarded.
        cpu_seconds: CPU time of this process while training, evaluations included.
    """

    model: Predictor
    history: tuple[HistoryRow, ...]
    best_ndcg: float
    cpu_seconds: float


def train_predictor(
    pairs: TrainingPairs,
    dev: EmbeddedQueries,
    documents: DocumentVectors,
    predictor: JASPERPredictorConfig,
    config: PredictorTrainingConfig,
    seed: int,
    *,
    start: Predictor | None = None,
    strength: float = 1.0,
) -> TrainedPredictor:
    """Train one predictor and keep its best weights.

    The learning rate grows geometrically from first to last step, so that a single run passes through every useful
    scale; dev nDCG@10 picks the point where to stop. Where it starts is one of the candidates.

    Args:
        pairs: The train split.
        dev: Queries that decide; never trained on.
        documents: The whole corpus: dev is scored against all of it.
        predictor: Widths and paths.
        config: Steps, rates, patience.
        seed: Same seed, same weights on a CPU with the same number of threads.
        start: A plain predictor to start at; left as it is. None: the identity.
        strength: Share of the trained map that dev is asked with, and that is kept.

    Raises:
        ValueError: `start` is no plain predictor.
    """
    started = time.process_time()
    # Initial weights draw from the CPU generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = JASPERPredictor(predictor) if start is None else copy.deepcopy(require_plain(start))
    source = PairBatches(pairs, config.batch_size, seed)
    validation = SplitRetrieval(dev, documents)
    trainer = ramp_trainer(
        *(model, model, source, validation, config, seed), evaluated=lambda _: weakened(model, strength)
    )
    history = trainer.fit()
    trainer.load_best()
    best_ndcg = trainer.best_metric[1]
    assert best_ndcg is not None
    return TrainedPredictor(model.eval(), tuple(history), best_ndcg, time.process_time() - started)


def ramp_trainer(
    model: JASPERPredictor,
    learning: nn.Module,
    source: PairBatches,
    validation: RetrievalValidation,
    config: PredictorTrainingConfig,
    seed: int,
    *,
    evaluated: Callable[[nn.Module], nn.Module] | None = None,
) -> JASPERTrainer:
    """A trainer by the softmax over all train sources alone, on a geometric ramp of the learning rate; writes nothing.

    Args:
        model: The predictor.
        learning: It, or a part of it: whose parameters learn.
        source: Batches of train pairs.
        validation: Asks dev.
        config: Steps, rates, patience.
        seed: Of the trainer's random numbers.
        evaluated: See `JASPERTrainer`.
    """
    loss = LossConfig(
        lambda_jasper=0,
        lambda_contrastive=1,
        lambda_centroid=0,
        lambda_vicreg=0,
        contrastive_temperature=config.temperature,
    )
    settings = _ramp_settings(config, len(source), seed)
    optimizer = torch.optim.AdamW(
        learning.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    return JASPERTrainer(
        settings,
        model,
        EMAEncoder(nn.Identity()),
        JASPERMultiObjectiveLoss.from_config(loss),
        optimizer,
        source,
        scheduler=build_scheduler(optimizer, settings, len(source), config.steps),
        loss=loss,
        validation=validation,
        evaluated=evaluated,
    )


def _ramp_settings(config: PredictorTrainingConfig, steps_per_epoch: int, seed: int) -> JASPERTrainerConfig:
    """A geometric ramp of the learning rate, with dev asked every few steps; nothing is written."""
    return JASPERTrainerConfig(
        batch_size=config.batch_size,
        num_epochs=-(-config.steps // steps_per_epoch),
        max_steps=config.steps,
        schedule="ramp",
        learning_rate=config.learning_rate_end,
        learning_rate_start=config.learning_rate_start,
        weight_decay=config.weight_decay,
        max_grad_norm=0,
        validate_every_n_epochs=0,
        validate_every_n_steps=max(1, config.steps // config.evaluations),
        early_stopping_patience=config.patience,
        log_every_n_steps=config.steps,
        seed=seed,
        device="cpu",
        checkpoint_dir=None,
    )


def predict(model: Predictor, questions: Vectors, steering: Vectors | None = None) -> Vectors:
    """Predictions of numpy questions [Q, D], float32 [Q, D]; the model is left in the mode it was in."""
    linear = linear_paths(model)
    if steering is None and linear is not None and linear.config.linear_path and not linear.config.normalize_output:
        # One matrix product: for a single question, torch takes longer to start than numpy to finish.
        asked = np.asarray(questions, dtype=np.float32)
        mapped: Vectors = asked @ linear.question_map.weight.detach().numpy().T
        return asked + mapped if linear.config.residual else mapped
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        # Copies: the caller's array may be read-only (a memory map) or of another width of float.
        given = None if steering is None else torch.from_numpy(np.array(steering, dtype=np.float32))
        predicted: Vectors = model(torch.from_numpy(np.array(questions, dtype=np.float32)), given).numpy()
    model.train(was_training)
    return predicted


def weakened(model: JASPERPredictor, strength: float) -> JASPERPredictor:
    """The predictor q + strength * (its map of q); itself where the strength is 1.

    Raises:
        ValueError: It is more than a residual and a linear path.
    """
    if strength == 1.0:
        return model
    if not (model.config.residual and model.config.linear_path) or model.config.mlp:
        raise ValueError("only a predictor of a residual and a linear path, without MLPs, can be weakened.")
    weaker = copy.deepcopy(model)
    with torch.no_grad():
        weaker.question_map.weight.mul_(strength)
        weaker.steering_map.weight.mul_(strength)
    return weaker
