"""The usual way out: fine-tune the encoder itself with sentence-transformers, for as long as somebody is ready to wait.

MultipleNegativesRankingLoss (scale 20), AdamW, the rate of the trainer's defaults (5e-5, falling linearly to 0 over the
time given, no warm-up), gradient norm clipped at 1. No batch holds a question or a document twice, as the
library's documentation asks for with this loss. The last weights are kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import batch_to_device

BATCH_SIZE = 16
LEARNING_RATE = 5e-5

TextPair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What a training took: optimiser steps and seconds."""

    steps: int
    cpu_seconds: float
    wall_seconds: float


def fine_tune(
    model: SentenceTransformer,
    pairs: Sequence[TextPair],
    seconds: float,
    seed: int,
    *,
    batch_size: int = BATCH_SIZE,
    clock: Callable[[], float] = time.perf_counter,
) -> FineTuning:
    """Train `model` in place on (question, document) texts.

    No step is begun that would end after `seconds` if it took as long as the longest so far; the first one always is.

    Raises:
        ValueError: Fewer than two documents or questions: there is nothing to tell apart.
    """
    started, cpu = clock(), time.process_time()
    loss = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    steps, longest, spent = 0, 0.0, 0.0
    was_training = model.training
    model.train()
    # Dropout draws from the generator that belongs to the caller.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for batch in distinct_batches(pairs, batch_size, seed):
            if steps and spent + longest > seconds:
                break
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * max(0.0, 1 - spent / seconds)
            _step(model, loss, optimizer, batch)
            before, spent = spent, clock() - started
            steps, longest = steps + 1, max(longest, spent - before)
    model.train(was_training)
    return FineTuning(steps, time.process_time() - cpu, spent)


def distinct_batches(pairs: Sequence[TextPair], batch_size: int, seed: int) -> Iterator[list[TextPair]]:
    """Batches for ever, shuffled anew in every epoch; a pair whose question or document is there already waits.

    What is left at the end of an epoch may be a smaller batch, but never a single pair.

    Raises:
        ValueError: Fewer than two documents or questions.
    """
    if min(len({question for question, _ in pairs}), len({document for _, document in pairs})) < 2:
        raise ValueError(f"{len(pairs)} pairs hold fewer than two distinct questions or documents.")
    generator = np.random.default_rng(seed)
    while True:
        waiting = deque(generator.permutation(len(pairs)).tolist())
        while waiting:
            batch: list[TextPair] = []
            questions: set[str] = set()
            documents: set[str] = set()
            for _ in range(len(waiting)):
                row = waiting.popleft()
                question, document = pairs[row]
                if question in questions or document in documents:
                    waiting.append(row)
                    continue
                batch.append(pairs[row])
                questions.add(question)
                documents.add(document)
                if len(batch) == batch_size:
                    break
            if len(batch) > 1:
                yield batch


def _step(
    model: SentenceTransformer,
    loss: MultipleNegativesRankingLoss,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[TextPair],
) -> None:
    columns = [batch_to_device(model.preprocess(list(texts)), model.device) for texts in zip(*batch, strict=True)]
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss(columns, torch.empty(0)))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
