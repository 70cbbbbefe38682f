from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from jasper_rag.evaluation import linear_adapter
from jasper_rag.evaluation.linear_adapter import LinearAdapter, train_linear_adapter
from jasper_rag.models.guard import unit
from jasper_rag.training.training_pairs import TrainingPairs

DIM, QUESTIONS, SOURCES = 6, 23, 12


def pairs(seed: int = 0) -> tuple[TrainingPairs, list[tuple[int, int]]]:
    """Questions with one to three sources, question 3 with none; and the first source of each."""
    generator = np.random.default_rng(seed)
    answered = [row for row in range(QUESTIONS) if row != 3]
    listed = [
        (row, int(source))
        for row in answered
        for source in sorted(generator.choice(SOURCES, size=1 + row % 3, replace=False))
    ]
    first = [next(pair for pair in listed if pair[0] == row) for row in answered]
    vectors = torch.from_numpy(unit(generator.standard_normal((QUESTIONS + SOURCES, DIM)).astype(np.float32)))
    unused = torch.full((QUESTIONS, 1), -1)
    given = TrainingPairs(
        vectors[:QUESTIONS], vectors[QUESTIONS:], torch.tensor(listed), unused, torch.ones(len(listed))
    )
    return given, first


def reference(given: TrainingPairs, first: list[tuple[int, int]], rate: float, share: float = 0.1) -> torch.Tensor:
    """The recipe as it would be written without a library: a linear layer, a schedule, batches in file order."""
    layer = nn.Linear(DIM, DIM, bias=False)
    nn.init.eye_(layer.weight)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=rate)
    batches = [first[start : start + 10] for start in range(0, len(first), 10)]
    total = 4 * len(batches)
    warmup = int(share * total)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / warmup if step < warmup else max(0.0, (total - step) / max(1, total - warmup))
    )
    for _ in range(4):
        for batch in batches:
            questions = torch.stack([given.questions[question] for question, _ in batch])
            sources = torch.stack([given.sources[source] for _, source in batch])
            scores = 20 * functional.cosine_similarity(layer(questions)[:, None], sources[None], dim=2)
            loss = -scores.log_softmax(dim=1).diagonal().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return layer.weight.detach()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_training_is_the_recipe_written_out(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_adapter, "WARMUP_SHARE", share)
    monkeypatch.setattr(linear_adapter, "LEARNING_RATE", 0.05)
    given, first = pairs()
    trained = train_linear_adapter(given)
    assert np.abs(trained.weight - np.eye(DIM)).max() > 0.01
    np.testing.assert_allclose(trained.weight, reference(given, first, 0.05, share).numpy(), rtol=1e-3, atol=1e-5)
    assert trained.cpu_seconds > 0


def test_the_recipes_own_figures() -> None:
    assert (linear_adapter.BATCH_SIZE, linear_adapter.EPOCHS, linear_adapter.SCALE) == (10, 4, 20.0)
    given, first = pairs()
    expected = reference(given, first, 2e-5).numpy()
    found = train_linear_adapter(given).weight
    # So small a rate moves little but what stands beside the ones of the identity.
    beside = ~np.eye(DIM, dtype=bool)
    assert np.abs(expected[beside]).max() > 1e-8
    np.testing.assert_allclose(found[beside], expected[beside], rtol=1e-3, atol=1e-11)


def test_the_order_of_the_pairs_counts() -> None:
    given, _ = pairs()
    turned = TrainingPairs(given.questions.flip(0), given.sources, given.pairs, given.known_positives, given.relevance)
    assert not np.array_equal(train_linear_adapter(given).weight, train_linear_adapter(turned).weight)


def test_transformed_questions_have_unit_length() -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((DIM, DIM)).astype(np.float32)
    questions = generator.standard_normal((4, DIM)).astype(np.float32)
    found = LinearAdapter(weight, 0.0).transform(questions)
    for row, question in enumerate(questions):
        np.testing.assert_allclose(found[row], weight @ question / np.linalg.norm(weight @ question), atol=1e-6)
