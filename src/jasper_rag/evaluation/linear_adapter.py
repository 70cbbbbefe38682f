"""The peer every comparison shows: a query-only linear adapter, trained as LlamaIndex's adapter engine does.

Facts of that recipe: a D x D map of the question that starts at the identity, multiple-negatives ranking loss with
scale 20 over batches of 10 pairs in file order, the first relevant document only, AdamW at 2e-5 with a linear
schedule whose warm-up is a tenth of the steps, gradient norm clipped at 1; four epochs as in its tutorial (one unless
told otherwise); the last weights are kept whatever they do to retrieval.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from jasper_rag.embedding.vectors import Vectors
from jasper_rag.models.guard import unit
from jasper_rag.progress import progress_bar
from jasper_rag.training.training_pairs import TrainingPairs

BATCH_SIZE = 10
EPOCHS = 4
LEARNING_RATE = 2e-5
WARMUP_SHARE = 0.1
SCALE = 20.0


@dataclass(frozen=True, slots=True)
class LinearAdapter:
    """A trained adapter: `weight` [D, D] and the CPU seconds it took."""

    weight: Vectors
    cpu_seconds: float

    def transform(self, questions: Vectors) -> Vectors:
        """Adapted questions, float32 [Q, D] unit rows."""
        return unit(questions @ self.weight.T)


def train_linear_adapter(pairs: TrainingPairs) -> LinearAdapter:
    """Train the adapter on the first pair of every question."""
    started = time.process_time()
    first = torch.unique_consecutive(pairs.pairs[:, 0], return_counts=True)[1].cumsum(0).roll(1)
    first[0] = 0
    questions, sources = pairs.pairs[first].unbind(1)
    weight = torch.eye(pairs.questions.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=LEARNING_RATE)
    steps = EPOCHS * -(-len(questions) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear_with_warmup(steps))
    with progress_bar(steps, "training the linear adapter", "step") as bar:
        for _ in range(EPOCHS):
            for rows in torch.split(torch.arange(len(questions)), BATCH_SIZE):
                _step(weight, pairs.questions[questions[rows]], pairs.sources[sources[rows]], optimizer)
                schedule.step()
                bar.update(1)
    return LinearAdapter(weight.detach().numpy(), time.process_time() - started)


def _step(weight: torch.Tensor, question: torch.Tensor, source: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    cosines = functional.normalize(question @ weight.T, dim=1) @ source.T
    loss = functional.cross_entropy(SCALE * cosines, torch.arange(len(question)))
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_([weight], 1.0)
    optimizer.step()


def _linear_with_warmup(steps: int) -> Callable[[int], float]:
    warmup = int(steps * WARMUP_SHARE)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup))

    return factor
