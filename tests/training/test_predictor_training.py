from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.models.guard import Vectors
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.training.batch_source import PairBatches
from jasper_rag.training.predictor_training import TrainedPredictor, predict, train_predictor
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.retrieval_validation import SplitRetrieval
from jasper_rag.training.training_pairs import training_pairs

DIM = 16
SHORT: dict[str, Any] = {
    "temperature": 0.03,
    "steps": 30,
    "evaluations": 6,
    "batch_size": 32,
    "learning_rate_start": 1e-3,
    "learning_rate_end": 3e-2,
}


def train(given: EmbeddedSet, *, mlp: bool = False, seed: int = 0, **changes: Any) -> TrainedPredictor:
    predictor = JASPERPredictorConfig(embedding_dim=DIM, hidden_dim=8, num_layers=2, mlp=mlp)
    config = PredictorTrainingConfig(**{**SHORT, **changes})
    return train_predictor(training_pairs(given), given.splits["dev"], given.vectors, predictor, config, seed)


def state(trained: TrainedPredictor) -> dict[str, Tensor]:
    return trained.model.state_dict()


def same(one: TrainedPredictor, other: TrainedPredictor) -> bool:
    return all(torch.equal(state(one)[name], state(other)[name]) for name in state(one))


def with_dev(given: EmbeddedSet, dev: EmbeddedQueries) -> EmbeddedSet:
    return replace(given, splits={**given.splits, "dev": dev})


def plain_ndcg(queries: Vectors, dev: EmbeddedQueries, documents: DocumentVectors) -> float:
    """One relevant document each: nDCG@10 is 1 / log2(1 + its rank)."""
    scores = queries @ documents.vectors.T
    wanted = scores[np.arange(len(dev)), dev.judgements.documents]
    ranks = 1 + (scores > wanted[:, None]).sum(axis=1)
    return float(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean())


@pytest.mark.slow
@pytest.mark.parametrize("mlp", [False, True])
def test_learns_what_the_question_alone_does_not_know(turned: EmbeddedSet, mlp: bool) -> None:
    trained = train(turned, mlp=mlp, steps=60)
    dev = turned.splits["dev"]
    question = plain_ndcg(dev.vectors, dev, turned.vectors)
    assert question < 0.7
    assert trained.best_ndcg > 0.9
    assert not trained.model.training
    # The weights are those of the best evaluation, not of the last.
    assert plain_ndcg(predict(trained.model, dev.vectors), dev, turned.vectors) == pytest.approx(trained.best_ndcg)
    assert trained.best_ndcg == max(row["val/ndcg@10"] for row in trained.history)
    assert [row["val/ndcg@10_question"] for row in trained.history] == pytest.approx([question] * len(trained.history))
    assert trained.history[-1]["train/total"] < 0.5 * trained.history[0]["train/total"]
    assert trained.cpu_seconds > 0


@pytest.mark.slow
def test_steps_are_those_of_a_plain_loop(turned: EmbeddedSet) -> None:
    trained = train(turned, steps=5, evaluations=1, batch_size=1000, learning_rate_start=0.01, weight_decay=0.1)
    pairs = training_pairs(turned)
    weight = torch.nn.Parameter(torch.zeros(DIM, DIM))
    optimizer = torch.optim.AdamW([weight], lr=0.0, betas=(0.9, 0.99), weight_decay=0.1)
    losses = []
    for step in range(5):
        optimizer.param_groups[0]["lr"] = 0.01 * 3 ** (step / 5)
        prediction = functional.normalize(pairs.questions + pairs.questions @ weight.T, dim=1)
        loss = functional.cross_entropy(prediction @ pairs.sources.T / 0.03, pairs.pairs[:, 1])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(state(trained)["question_map.weight"], weight.detach(), rtol=1e-3, atol=1e-5)
    (row,) = trained.history
    assert row["train/total"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert row["train/lr"] == pytest.approx(0.01 * 3**0.8)
    assert (row["step"], row["epoch"]) == (5, 5)


@pytest.mark.slow
def test_relevance_weighs_and_known_positives_are_no_negatives(turned: EmbeddedSet) -> None:
    """A second answer of weight nearly 0 that is masked leaves what is learnt from the first alone."""
    train_split = turned.splits["train"]
    count = len(train_split)
    seconds = (np.arange(count) + 1) % count
    documents = np.stack([np.arange(count), seconds], axis=1).ravel()
    grades = np.tile([10**6, 1], count)
    doubled = replace(train_split, judgements=Judgements(2 * np.arange(count + 1), documents, grades))
    both = training_pairs(replace(turned, splits={**turned.splits, "train": doubled}))
    predictor = JASPERPredictorConfig(embedding_dim=DIM, mlp=False)
    config = PredictorTrainingConfig(**{**SHORT, "steps": 5, "evaluations": 1, "batch_size": 1000})
    learnt = train_predictor(both, turned.splits["dev"], turned.vectors, predictor, config, 0)
    prediction = functional.normalize(both.questions, dim=1)
    logits = prediction @ both.sources.T / config.temperature
    logits[torch.arange(count), torch.from_numpy(seconds)] = float("-inf")
    assert learnt.best_ndcg > learnt.history[0]["val/ndcg@10_question"]
    first_only = functional.cross_entropy(logits, torch.arange(count)).item()
    single = train_predictor(
        both, turned.splits["dev"], turned.vectors, predictor, config.model_copy(update={"steps": 1}), 0
    )
    assert single.history[0]["train/total"] == pytest.approx(first_only, rel=1e-4)


@pytest.mark.slow
def test_a_seed_decides_every_bit(turned: EmbeddedSet) -> None:
    one, again, other = (train(turned, mlp=True, seed=seed) for seed in (0, 0, 1))
    assert same(one, again)
    assert one.history == again.history
    assert not same(one, other)
    assert one.history != other.history


@pytest.mark.slow
def test_global_random_state_is_left_alone(turned: EmbeddedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seed: int) -> None:
        raise AssertionError(f"seeded every GPU with {seed}")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    before = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    train(turned, mlp=True, steps=2, evaluations=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state(legacy=False)) == str(before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.slow
def test_patience_stops_and_nothing_better_than_the_question_leaves_the_identity(turned: EmbeddedSet) -> None:
    # Dev questions that stand on their answers: nothing can be better.
    dev = replace(turned.splits["dev"], vectors=turned.vectors.vectors[120:200])
    trained = train(with_dev(turned, dev), patience=3)
    assert [row["step"] for row in trained.history] == [5, 10, 15]
    assert trained.best_ndcg == 1.0
    assert not any(tensor.any() for tensor in state(trained).values())
    np.testing.assert_array_equal(predict(trained.model, dev.vectors), dev.vectors)


@pytest.mark.slow
def test_patience_counts_from_the_best(turned: EmbeddedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.4, 0.6, 0.6, 0.7, 0.1, 0.7, 0.9])
    original = SplitRetrieval.__call__
    question = plain_ndcg(turned.splits["dev"].vectors, turned.splits["dev"], turned.vectors)

    def scored(self: SplitRetrieval, *given: Any) -> dict[str, float]:
        found = original(self, *given)
        untrained = found["ndcg@10"] == found["ndcg@10_question"]
        return found if untrained else found | {"ndcg@10": next(scores)}

    monkeypatch.setattr(SplitRetrieval, "__call__", scored)
    trained = train(turned, patience=2, evaluations=10)
    assert question < 0.7
    assert [row["val/ndcg@10"] for row in trained.history] == [0.4, 0.6, 0.6, 0.7, 0.1, 0.7]
    assert trained.best_ndcg == 0.7


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_labels_at_random_do_no_harm(turned: EmbeddedSet, seed: int) -> None:
    generator = np.random.default_rng(seed)
    shuffled = {
        split: replace(
            queries,
            judgements=replace(queries.judgements, documents=generator.permutation(queries.judgements.documents)),
        )
        for split, queries in turned.splits.items()
    }
    given = replace(turned, splits=shuffled)
    dev = given.splits["dev"]
    trained = train(given)
    question = plain_ndcg(dev.vectors, dev, given.vectors)
    assert plain_ndcg(predict(trained.model, dev.vectors), dev, given.vectors) >= question


@pytest.mark.slow
def test_steps_and_evaluations_that_do_not_divide(turned: EmbeddedSet) -> None:
    assert [row["step"] for row in train(turned, steps=7, evaluations=3).history] == [2, 4, 6]
    assert [row["step"] for row in train(turned, steps=2, evaluations=30).history] == [1, 2]


def test_every_pass_sees_every_pair_once(turned: EmbeddedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    original = PairBatches.epoch

    def watched(self: PairBatches, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for batch in original(self, epoch, start):
            seen.append(batch["target_rows"].tolist())
            yield batch

    monkeypatch.setattr(PairBatches, "epoch", watched)
    history = train(turned, steps=7, evaluations=1, batch_size=40).history
    passes = [sorted(row for rows in seen[start : start + 3] for row in rows) for start in (0, 3)]
    assert passes == [list(range(120))] * 2
    assert seen[0] != seen[3]
    assert len(seen) == 7
    assert history[-1]["epoch"] == pytest.approx(7 / 3)


def test_predict_keeps_the_mode_and_takes_steering() -> None:
    model = JASPERPredictor(JASPERPredictorConfig(embedding_dim=4, mlp=False))
    torch.nn.init.eye_(model.steering_map.weight)
    question, steering = np.eye(4, dtype=np.float32)[:2], np.full((2, 4), 0.5, dtype=np.float32)
    for training in (True, False):
        model.train(training)
        np.testing.assert_array_equal(predict(model, question, steering), question + 0.5)
        np.testing.assert_array_equal(predict(model, question[::-1]), question[::-1])
        assert model.training is training
