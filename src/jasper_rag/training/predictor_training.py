"""Train the predictor on cached embeddings; keep the weights with the best dev nDCG@10."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.losses.source_softmax import source_softmax
from jasper_rag.metrics.ranking import ndcg
from jasper_rag.metrics.topk import top_k
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.progress import progress_bar
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.schedules import geometric
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

    model: JASPERPredictor
    history: tuple[HistoryRow, ...]
    best_ndcg: float
    cpu_seconds: float


def train_predictor(
    pairs: TrainingPairs,
    dev: EmbeddedQueries,
    documents: Vectors,
    predictor: JASPERPredictorConfig,
    config: PredictorTrainingConfig,
    seed: int,
) -> TrainedPredictor:
    """Train `config.members` predictors and average their weights where dev agrees.

    The learning rate grows geometrically from first to last step, so that a single run passes through every useful
    scale; dev nDCG@10 picks the point where to stop. It starts at the identity, which is one of the candidates.

    Args:
        pairs: The train split.
        dev: Queries that decide; never trained on.
        documents: float32 [N, D], the whole corpus: dev is scored against all of it.
        predictor: Widths and paths.
        config: Steps, rates, patience.
        seed: Same seed, same weights on a CPU with the same number of threads.
    """
    started = time.process_time()
    runs = [_train_member(pairs, dev, documents, predictor, config, seed * 1000 + m) for m in range(config.members)]
    history = tuple({**row, "member": float(m)} for m, run in enumerate(runs) for row in run.history)
    model, best = runs[0].model, runs[0].best_ndcg
    if len(runs) > 1:
        average = _average([run.model for run in runs])
        average_ndcg = dev_ndcg(predict(average, dev.vectors), dev, documents)
        candidates = [(average_ndcg, average), *((run.best_ndcg, run.model) for run in runs)]
        best, model = max(candidates, key=lambda candidate: candidate[0])
    return TrainedPredictor(model, history, best, time.process_time() - started)


def predict(model: JASPERPredictor, questions: Vectors, steering: Vectors | None = None) -> Vectors:
    """Predictions of numpy questions [Q, D], float32 [Q, D]; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        given = None if steering is None else torch.from_numpy(steering)
        predicted: Vectors = model(torch.from_numpy(np.ascontiguousarray(questions)), given).numpy()
    model.train(was_training)
    return predicted


def dev_ndcg(query_vectors: Vectors, dev: EmbeddedQueries, documents: Vectors, k: int = 10) -> float:
    """Mean nDCG@k of `query_vectors` [Q, D] searched in the whole corpus."""
    return float(ndcg(top_k(query_vectors, documents, k)[1], dev.judgements, k).mean())


@dataclass(frozen=True, slots=True)
class _Run:
    model: JASPERPredictor
    history: list[HistoryRow]
    best_ndcg: float


def _train_member(
    pairs: TrainingPairs,
    dev: EmbeddedQueries,
    documents: Vectors,
    predictor: JASPERPredictorConfig,
    config: PredictorTrainingConfig,
    seed: int,
) -> _Run:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _run_steps(pairs, dev, documents, JASPERPredictor(predictor), config, generator)


def _run_steps(
    pairs: TrainingPairs,
    dev: EmbeddedQueries,
    documents: Vectors,
    model: JASPERPredictor,
    config: PredictorTrainingConfig,
    generator: torch.Generator,
) -> _Run:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate_start, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    question_ndcg = dev_ndcg(dev.vectors, dev, documents)
    best_ndcg, best_state, since_best = question_ndcg, copy.deepcopy(model.state_dict()), 0
    history: list[HistoryRow] = []
    interval = max(1, config.steps // config.evaluations)
    loss_sum = torch.zeros(())
    batches = _batches(len(pairs), config.batch_size, generator)
    with progress_bar(config.steps, "training", "step") as bar:
        for step in range(config.steps):
            rate = geometric(config.learning_rate_start, config.learning_rate_end, step, config.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss_sum += _step(model, optimizer, pairs, next(batches), config.temperature)
            bar.update(1)
            if (step + 1) % interval:
                continue
            score = dev_ndcg(predict(model, dev.vectors), dev, documents)
            history.append(
                {
                    "step": float(step + 1),
                    "epoch": (step + 1) * min(config.batch_size, len(pairs)) / len(pairs),
                    "train/total": float(loss_sum) / interval,
                    "train/lr": rate,
                    "val/ndcg@10": score,
                    "val/ndcg@10_question": question_ndcg,
                }
            )
            loss_sum.zero_()
            bar.set_postfix_str(f"dev nDCG@10 {score:.4f} (question alone {question_ndcg:.4f})")
            if score > best_ndcg:
                best_ndcg, best_state, since_best = score, copy.deepcopy(model.state_dict()), 0
            else:
                since_best += 1
                if since_best >= config.patience:
                    break
    model.load_state_dict(best_state)
    return _Run(model.eval(), history, best_ndcg)


def _step(
    model: JASPERPredictor, optimizer: torch.optim.Optimizer, pairs: TrainingPairs, batch: Tensor, temperature: float
) -> Tensor:
    questions, targets = pairs.pairs[batch].unbind(1)
    prediction = functional.normalize(model(pairs.questions[questions]), dim=1)
    loss = source_softmax(
        prediction,
        pairs.sources,
        targets,
        pairs.known_positives[questions],
        temperature=temperature,
        weight=pairs.relevance[batch],
    )
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.detach()


def _batches(pairs: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of pair rows: each pass is a fresh permutation, the short last batch of a pass is dropped."""
    size = min(batch_size, pairs)
    while True:
        order = torch.randperm(pairs, generator=generator)
        yield from torch.split(order[: pairs - pairs % size], size)


def _average(models: list[JASPERPredictor]) -> JASPERPredictor:
    average = copy.deepcopy(models[0])
    states = [model.state_dict() for model in models]
    average.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return average
