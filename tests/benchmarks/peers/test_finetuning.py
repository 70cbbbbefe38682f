from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from types import ModuleType

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

PAIRS = [(f"question {number}", f"document {number // 2}") for number in range(10)]


@pytest.fixture
def finetuning(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("finetuning")


@pytest.fixture
def model() -> SentenceTransformer:
    """A mean of word vectors of 16 dimensions."""
    named = ["question", "document", "cat", "oak", "rain", "gold", "animal", "tree", "water", "metal"]
    words = ["[UNK]", *named, *map(str, range(10))]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(words), 16)).astype(np.float32)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu").eval()


class Clock:
    """Every look costs a second."""

    def __init__(self) -> None:
        self.now = -1.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.parametrize(("seconds", "steps"), [(0.5, 1), (1.0, 1), (3.5, 3), (5.0, 5)])
def test_the_time_is_kept(finetuning: ModuleType, model: SentenceTransformer, seconds: float, steps: int) -> None:
    before = torch.random.get_rng_state()
    found = finetuning.fine_tune(model, PAIRS, seconds, 0, batch_size=4, clock=Clock())
    assert (found.steps, found.wall_seconds) == (steps, float(steps))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training


@pytest.mark.slow
def test_real_time_is_kept(finetuning: ModuleType, model: SentenceTransformer) -> None:
    found = finetuning.fine_tune(model, PAIRS, 0.3, 0, batch_size=4)
    assert found.steps > 1
    assert found.wall_seconds < 0.6
    assert found.cpu_seconds > 0


@pytest.mark.slow
def test_the_encoder_learns_the_pairs(
    finetuning: ModuleType, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "LEARNING_RATE", 0.01)
    pairs = [("cat", "animal"), ("oak", "tree"), ("rain", "water"), ("gold", "metal")]

    def share() -> float:
        asked, given = (model.encode([pair[side] for pair in pairs]) for side in (0, 1))
        scores = asked @ given.T / np.linalg.norm(given, axis=1)
        return float((scores.argmax(axis=1) == np.arange(4)).mean())

    before = share()
    finetuning.fine_tune(model, pairs, 60.0, 0, batch_size=4, clock=Clock())
    assert share() > before


def test_batches_hold_nothing_twice(finetuning: ModuleType) -> None:
    pairs = [*PAIRS, ("question 0", "document 4")]
    drawn = list(islice(finetuning.distinct_batches(pairs, 4, 0), 30))
    for batch in drawn:
        assert 1 < len(batch) <= 4
        for side in (0, 1):
            texts = [pair[side] for pair in batch]
            assert len(set(texts)) == len(texts)
    assert {pair for batch in drawn for pair in batch} == set(pairs)
    assert drawn == list(islice(finetuning.distinct_batches(pairs, 4, 0), 30))
    assert drawn != list(islice(finetuning.distinct_batches(pairs, 4, 1), 30))


@pytest.mark.parametrize("pairs", [[], [("q", "d")], [("q", "d"), ("q", "e")], [("q", "d"), ("r", "d")]])
def test_nothing_to_tell_apart_is_refused(finetuning: ModuleType, pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="fewer than two distinct"):
        next(finetuning.distinct_batches(pairs, 4, 0))
