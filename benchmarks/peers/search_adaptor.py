"""An adapter of questions and documents after Search-Adaptor (Yoon et al., arXiv:2310.08750), written from the paper.

One small network f, shared by questions and documents, adds to an embedding e what retrieval asks for: e + f(e). It is
trained with

    L = L_rank + recovery * L_rec + prediction * L_pred
    L_rank = sum_ijk [y_ij > y_ik] (y_ij - y_ik) log(1 + exp(scale (s_ik - s_ij))) / sum_ijk [y_ij > y_ik] (y_ij - y_ik)
    L_rec  = mean |e - adapted e|_1 over questions and documents
    L_pred = sum_ij y_ij |adapted question_i - p(adapted document_j)|_1 / sum_ij y_ij

where s are cosines of adapted vectors and p, a network that is thrown away, predicts a question from its document. The
paper's scale is 1 and its ranking loss a sum; the mean here only shifts what the weights stand for. Widths, steps and
the grid are ours. f ends in zeros, so that training starts at the plain embeddings.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.training.training_pairs import TrainingPairs

BATCH_SIZE = 128
NEGATIVES = 256
"""Train sources drawn beside those of the batch."""

STEPS, EVERY, PATIENCE = 1000, 50, 3
"""Most steps, steps between two looks at dev, and looks without a better one after which a training stops."""


@dataclass(frozen=True, slots=True)
class AdaptorRun:
    """One point of the grid; see the module."""

    recovery: float
    prediction: float
    scale: float
    learning_rate: float = 1e-3


GRID = (
    AdaptorRun(0.0, 0.0, 20.0),
    AdaptorRun(0.001, 0.001, 20.0),
    AdaptorRun(0.01, 0.01, 20.0),
    AdaptorRun(0.01, 0.01, 1.0),
)
"""Scale 1 is the paper's. Without regularisers it ruins scifact; with recovery .1 nothing moves even at 20."""


@dataclass(frozen=True, slots=True)
class TrainedAdaptor:
    """One training: the weights that were best on dev, dev nDCG@10 at every look, and what it took."""

    run: AdaptorRun
    adapter: ResidualAdapter
    curve: tuple[float, ...]
    cpu_seconds: float
    wall_seconds: float


class ResidualAdapter(nn.Module):
    """The map e + f(e) of embeddings [n, D]; f is a network of one hidden layer of width D."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dimension, dimension)
        self.out = nn.Linear(dimension, dimension)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Adapted embeddings [n, D], of any length."""
        adapted: Tensor = embeddings + self.out(functional.relu(self.hidden(embeddings)))
        return adapted


def ranking_loss(scores: Tensor, relevance: Tensor, scale: float) -> Tensor:
    """Weighted pairwise logistic loss of scores [B, K] under relevance [B, K] >= 0; 0 where all are equal."""
    # A document of relevance 0 is above none.
    rows, columns = relevance.nonzero(as_tuple=True)
    weights = (relevance[rows, columns, None] - relevance[rows]).clamp(min=0)
    losses = functional.softplus(scale * (scores[rows] - scores[rows, columns, None]))
    return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(scores.dtype).tiny)


def recovery_loss(original: Tensor, adapted: Tensor) -> Tensor:
    """Mean L1 distance of rows [n, D]."""
    return (original - adapted).abs().sum(dim=1).mean()


def prediction_loss(questions: Tensor, predicted: Tensor, relevance: Tensor) -> Tensor:
    """L1 distance of questions [B, D] and what is predicted of documents [K, D], weighted by relevance [B, K]."""
    rows, columns = relevance.nonzero(as_tuple=True)
    distances = (questions[rows] - predicted[columns]).abs().sum(dim=1)
    weights = relevance[rows, columns]
    return (weights * distances).sum() / weights.sum().clamp(min=torch.finfo(distances.dtype).tiny)


def known_relevance(pairs: TrainingPairs) -> Tensor:
    """Relevance of `pairs.known_positives`, float32 [Q, W]; 1 where only another question of the same words has it."""
    width = len(pairs.sources)
    keys, order = (pairs.pairs[:, 0] * width + pairs.pairs[:, 1]).sort()
    wanted = torch.arange(len(pairs.questions))[:, None] * width + pairs.known_positives
    places = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[places] == wanted, pairs.relevance[order][places], torch.ones(()))


def batch_relevance(pairs: TrainingPairs, relevance: Tensor, questions: Tensor, sources: Tensor) -> Tensor:
    """Relevance [B, K] of source rows [K] to question rows [B]; `relevance` is `known_relevance(pairs)`."""
    same = pairs.known_positives[questions][:, :, None] == sources
    return (same * relevance[questions][:, :, None]).amax(dim=1)


def train_adaptor(
    pairs: TrainingPairs, dev_ndcg: Callable[[ResidualAdapter], float], run: AdaptorRun, seed: int, steps: int = STEPS
) -> TrainedAdaptor:
    """Train one point of the grid and keep the best weights; the plain embeddings are one of the choices.

    Args:
        pairs: The train split; negatives are its sources.
        dev_ndcg: nDCG@10 of dev questions and documents both adapted.
        run: Weights and rate.
        seed: Of weights and batches.
        steps: Most steps.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    dimension = pairs.questions.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        adapter = ResidualAdapter(dimension)
        predictor = nn.Sequential(nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension))
    optimizer = torch.optim.Adam([*adapter.parameters(), *predictor.parameters()], lr=run.learning_rate)
    generator, relevance = torch.Generator().manual_seed(seed), known_relevance(pairs)
    best, curve = copy.deepcopy(adapter), [dev_ndcg(adapter)]
    for step in range(1, steps + 1):
        loss = _batch_loss(pairs, relevance, adapter, predictor, run, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if step % EVERY and step != steps:
            continue
        found = dev_ndcg(adapter)
        if found > max(curve):
            best = copy.deepcopy(adapter)
        curve.append(found)
        if len(curve) - 1 - curve.index(max(curve)) >= PATIENCE:
            break
    return TrainedAdaptor(run, best, tuple(curve), time.process_time() - cpu, time.perf_counter() - wall)


def tune(
    pairs: TrainingPairs, dev_ndcg: Callable[[ResidualAdapter], float], seed: int, grid: Sequence[AdaptorRun] = GRID
) -> tuple[TrainedAdaptor, list[TrainedAdaptor]]:
    """Train every point of the grid: the best on dev (the first of equals), and all of them."""
    trained = [train_adaptor(pairs, dev_ndcg, run, seed) for run in grid]
    return max(trained, key=lambda one: max(one.curve)), trained


def _batch_loss(
    pairs: TrainingPairs,
    relevance: Tensor,
    adapter: ResidualAdapter,
    predictor: nn.Module,
    run: AdaptorRun,
    generator: torch.Generator,
) -> Tensor:
    drawn = pairs.pairs[torch.randint(len(pairs), (BATCH_SIZE,), generator=generator)]
    others = torch.randint(len(pairs.sources), (NEGATIVES,), generator=generator)
    sources = torch.unique(torch.cat([drawn[:, 1], others]))
    judged = batch_relevance(pairs, relevance, drawn[:, 0], sources)
    asked, documents = pairs.questions[drawn[:, 0]], pairs.sources[sources]
    adapted, answers = adapter(asked), adapter(documents)
    scores = functional.normalize(adapted, dim=1) @ functional.normalize(answers, dim=1).T
    loss = ranking_loss(scores, judged, run.scale)
    if run.recovery:
        loss = loss + run.recovery * (recovery_loss(asked, adapted) + recovery_loss(documents, answers))
    if run.prediction:
        loss = loss + run.prediction * prediction_loss(adapted, predictor(answers), judged)
    return loss
