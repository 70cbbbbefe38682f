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

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.losses.source_softmax import source_softmax
from jasper_rag.metrics.ranking import ndcg
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
    documents: DocumentVectors,
    predictor: JASPERPredictorConfig,
    config: PredictorTrainingConfig,
    seed: int,
    *,
    start: JASPERPredictor | None = None,
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
        start: Where to start; left as it is. None: at the identity.
        strength: Share of the trained map that dev is asked with, and that is kept.
    """
    started = time.process_time()
    generator = torch.Generator().manual_seed(seed)
    # Initial weights and dropout draw from the CPU generator, which belongs to the caller (so do those of GPUs).
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = JASPERPredictor(predictor) if start is None else copy.deepcopy(start).train()
        model, history, best_ndcg = _run_steps(pairs, dev, documents, model, config, generator, strength)
    return TrainedPredictor(model, tuple(history), best_ndcg, time.process_time() - started)


def predict(model: JASPERPredictor, questions: Vectors, steering: Vectors | None = None) -> Vectors:
    """Predictions of numpy questions [Q, D], float32 [Q, D]; the model is left in the mode it was in."""
    config = model.config
    if steering is None and config.linear_path and not (config.mlp or config.normalize_output):
        # One matrix product: for a single question, torch takes longer to start than numpy to finish.
        asked = np.asarray(questions, dtype=np.float32)
        mapped: Vectors = asked @ model.question_map.weight.detach().numpy().T
        return asked + mapped if config.residual else mapped
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


def dev_ndcg(query_vectors: Vectors, dev: EmbeddedQueries, documents: DocumentVectors, k: int = 10) -> float:
    """Mean nDCG@k of `query_vectors` [Q, D] searched in the whole corpus."""
    return float(ndcg(documents.top_k(query_vectors, k)[1], dev.judgements, k).mean())


def _run_steps(
    pairs: TrainingPairs,
    dev: EmbeddedQueries,
    documents: DocumentVectors,
    model: JASPERPredictor,
    config: PredictorTrainingConfig,
    generator: torch.Generator,
    strength: float,
) -> tuple[JASPERPredictor, list[HistoryRow], float]:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate_start, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    question_ndcg = dev_ndcg(dev.vectors, dev, documents)
    kept = weakened(model, strength)
    asked = predict(kept, dev.vectors)
    start_ndcg = question_ndcg if np.array_equal(asked, dev.vectors) else dev_ndcg(asked, dev, documents)
    best_ndcg, best_state, since_best = start_ndcg, copy.deepcopy(kept.state_dict()), 0
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
            kept = weakened(model, strength)
            score = dev_ndcg(predict(kept, dev.vectors), dev, documents)
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
                best_ndcg, best_state, since_best = score, copy.deepcopy(kept.state_dict()), 0
            else:
                since_best += 1
                # A few dev questions stand still while the rate is small: no giving up before half of the way.
                moved = best_ndcg > start_ndcg or 2 * (step + 1) >= config.steps
                if moved and since_best >= config.patience:
                    break
    model.load_state_dict(best_state)
    return model.eval(), history, best_ndcg


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
