"""Mining holds one block of scores at a time, whatever the number of questions and sources."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest
import torch

from jasper_rag.build import similar_sources
from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.build.negative_mining import Negatives, mine_negatives
from jasper_rag.build.pair_set import PairSet
from jasper_rag.models.guard import unit

SOURCES, QUESTIONS, CLUSTERS, DIMENSION = 6_000, 4_000, 8, 8


@pytest.fixture(scope="module")
def given() -> PairSet:
    """Half of the sources are in one cluster."""
    generator = np.random.default_rng(0)
    centroids = unit(generator.standard_normal((CLUSTERS, DIMENSION)).astype(np.float32))
    cluster = np.maximum(generator.integers(-CLUSTERS, CLUSTERS, size=SOURCES), 0)
    vectors = unit(centroids[cluster] + 0.5 * generator.standard_normal((SOURCES, DIMENSION)).astype(np.float32))
    answers = generator.choice(SOURCES, size=QUESTIONS, replace=False)
    asked = unit(vectors[answers] + 0.3 * generator.standard_normal((QUESTIONS, DIMENSION)).astype(np.float32))
    pairs = np.stack([np.arange(QUESTIONS), answers], axis=1)
    return PairSet(asked, vectors, pairs, cluster, centroids, pairs, np.arange(SOURCES))


def mine(given: PairSet) -> Negatives:
    return mine_negatives(given, np.ones(SOURCES, dtype=np.bool_), NegativeConfig(n_neg=8), 0)


@pytest.mark.parametrize(("scores", "candidates"), [(50_000, 1 << 22), (2_000, 1 << 22), (50_000, 20_000)])
def test_never_more_than_two_blocks_are_alive(
    given: PairSet, monkeypatch: pytest.MonkeyPatch, scores: int, candidates: int
) -> None:
    expected = mine(given)
    alive: set[int] = set()
    most, made = 0, 0
    real = vars(similar_sources)["_cosines"]

    def counted(questions: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        nonlocal most, made
        block: torch.Tensor = real(questions, vectors)
        assert block.numel() <= max(scores, len(vectors))
        made += block.numel()
        alive.add(id(block))
        weakref.finalize(block, alive.discard, id(block))
        most = max(most, len(alive))
        return block

    monkeypatch.setattr(similar_sources, "_cosines", counted)
    monkeypatch.setattr(similar_sources, "_SCORES", scores)
    monkeypatch.setattr(similar_sources, "_CANDIDATES", candidates)
    found = mine(given)
    assert made > 10_000_000
    assert 1 <= most <= 2
    assert not alive
    np.testing.assert_array_equal(found.tiers, expected.tiers)
    # Products of blocks of another size may round differently.
    assert (found.rows == expected.rows).mean() > 0.999


def test_numpy_never_holds_questions_by_sources(given: PairSet) -> None:
    tracemalloc.start()
    try:
        mine(given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < QUESTIONS * SOURCES * 4 / 6
