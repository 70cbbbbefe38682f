from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
from jasper_rag.text.pair_files import TrainingExample
from jasper_rag.training.cached_base import BaseEncoder, base_vectors
from jasper_rag.training.encoder_batches import PairTable, pair_table
from jasper_rag.training.encoder_features import FrozenFeatures, LiveFeatures
from jasper_rag.training.encoder_trainer import epoch_randomness

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PAIRS = [
    TrainingExample("car or physician", "car and doctor", "road"),
    TrainingExample("child", "infant and street and house"),
    TrainingExample("rock or film", "stone and movie", "car and doctor"),
    TrainingExample("child", "infant and ship", "road"),
]


@pytest.fixture
def model(tiny_bert: Path) -> GaussianEmbeddingGemma:
    return GaussianEmbeddingGemma(16, str(tiny_bert), device="cpu")


@pytest.fixture(scope="module")
def table() -> PairTable:
    return pair_table(PAIRS)


def test_both_kinds_give_the_vectors_of_the_pairs(model: GaussianEmbeddingGemma, table: PairTable) -> None:
    model.eval()
    pairs = np.array([2, 0, 1])
    queries, documents = base_vectors(model, table.queries, "query"), base_vectors(model, table.documents, "document")
    for source in (
        FrozenFeatures(table, queries, documents, CPU),
        LiveFeatures(model, table, 2),
        LiveFeatures(model, table, 8),
    ):
        (batch,) = source.batches([pairs])
        assert batch.negatives is not None
        for found, texts in (
            (batch.queries, [PAIRS[row].query for row in pairs]),
            (batch.positives, [PAIRS[row].positive for row in pairs]),
            (batch.negatives[:2], [PAIRS[row].negative for row in pairs[:2]]),
        ):
            torch.testing.assert_close(found, model.base_features(texts), atol=1e-5, rtol=1e-4)
        assert not batch.negatives[2].any()
    # A batch without negatives has none.
    (alone,) = LiveFeatures(model, table, 8).batches([np.array([1])])
    assert alone.negatives is None


def test_accumulated_batches_learn_what_one_large_batch_would(model: GaussianEmbeddingGemma, table: PairTable) -> None:
    found = []
    for size in (8, 1):
        model.zero_grad()
        (batch,) = LiveFeatures(model.eval(), table, size).batches([np.arange(4)])
        # Every query meets the documents of all batches.
        torch.autograd.backward((batch.queries @ batch.positives.T * 20).logsumexp(dim=1).sum())
        batch.backward()
        found.append({name: value.grad for name, value in model.base.named_parameters() if value.grad is not None})
    assert found[0]
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-4, rtol=1e-3)


def test_dropout_agrees_between_the_two_runs_of_a_part(model: GaussianEmbeddingGemma, table: PairTable) -> None:
    source = LiveFeatures(model.train(), table, 1)
    with epoch_randomness(0, 1, CPU):
        (batch,) = source.batches([np.arange(4)])
    with epoch_randomness(0, 2, CPU):
        (other,) = source.batches([np.arange(4)])
    assert not torch.allclose(batch.queries, other.queries)


def test_many_batches_come_in_their_order(model: GaussianEmbeddingGemma, table: PairTable) -> None:
    steps = [np.array([row % 4]) for row in range(9)]
    found = [batch.pairs.tolist() for batch in LiveFeatures(model, table, 2).batches(steps)]
    assert found == [step.tolist() for step in steps]


def test_vectors_of_an_untouched_base_are_kept(tiny_bert: Path, tmp_path: Path) -> None:
    model = GaussianEmbeddingGemma(16, str(tiny_bert), device="cpu", freeze_base=True)
    store = EmbeddingStore(tmp_path)
    first = base_vectors(model, ["car", "road"], "query", store=store)
    torch.testing.assert_close(first, model.encode_base(["car", "road"], role="query"))
    assert store.embed_with_report(["road"], BaseEncoder(model), "query").report.reused == 1
    # A base that may have moved is another model: nothing of it goes there.
    model.set_frozen(False)
    base_vectors(model, ["ship"], "query", store=store)
    assert store.embed_with_report(["ship"], BaseEncoder(model), "query").report.reused == 0
