from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from jasper_rag.embedding.document_vectors import DocumentVectors
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.metrics.ranking import ndcg
from jasper_rag.models.guard import Vectors
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.text.training_questions import PSEUDO, PSEUDO_DEV
from jasper_rag.training import candidates
from jasper_rag.training.candidates import (
    FILLED,
    HALF_WAY,
    LABELLED,
    PSEUDO_ALONE,
    PSEUDO_FIRST,
    Candidates,
    train_candidates,
)
from jasper_rag.training.predictor_training import predict, train_predictor, weakened
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.training_pairs import training_pairs

QUICK = PredictorTrainingConfig(
    temperature=0.03, steps=30, evaluations=6, batch_size=32, learning_rate_start=1e-3, learning_rate_end=3e-2
)
FEW, HELD_OUT = 8, 20


def dev_ndcg(queries: Vectors, dev: EmbeddedQueries, documents: DocumentVectors) -> float:
    """Mean nDCG@10 of vectors against all documents."""
    return float(ndcg(documents.top_k(queries, 10)[1], dev.judgements, 10).mean())


def part(queries: EmbeddedQueries, rows: range) -> EmbeddedQueries:
    ids = tuple(queries.ids[row] for row in rows)
    return EmbeddedQueries(ids, ids, queries.vectors[list(rows)], queries.judgements.select(rows))


def with_pseudo(turned: EmbeddedSet, *, true: bool) -> EmbeddedSet:
    """Few labelled questions; all others stand beside them, with their own answers or with any."""
    train = turned.splits["train"]
    others = part(train, range(FEW, len(train)))
    if not true:
        wrong = np.random.default_rng(0).permutation(others.judgements.documents)
        others = replace(others, judgements=replace(others.judgements, documents=wrong))
    taught, held_out = part(others, range(HELD_OUT, len(others))), part(others, range(HELD_OUT))
    splits = {"train": part(train, range(FEW)), "dev": turned.splits["dev"], PSEUDO: taught, PSEUDO_DEV: held_out}
    return replace(turned, splits=splits)


@pytest.fixture(scope="module", autouse=True)
def _few_real_dev_questions() -> Iterator[None]:
    """The dev split counts as one of few questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "FEWEST_REAL", 1000)
        yield


@pytest.fixture(scope="module")
def helped(turned: EmbeddedSet) -> Candidates:
    return train_candidates(with_pseudo(turned, true=True), QUICK, 0)


@pytest.mark.slow
def test_labels_alone_are_trained_on_once(turned: EmbeddedSet) -> None:
    found = train_candidates(turned, QUICK, 3)
    pairs, dev = training_pairs(turned), turned.splits["dev"]
    alone = train_predictor(pairs, dev, turned.vectors, JASPERPredictorConfig(embedding_dim=16, mlp=False), QUICK, 3)
    assert (found.chosen, found.questions) == (LABELLED, turned.splits["train"])
    assert found.dev_ndcg == {LABELLED: alone.best_ndcg}
    assert found.trained.history == alone.history
    for name, tensor in found.trained.model.state_dict().items():
        assert tensor.equal(alone.model.state_dict()[name])
    assert found.cpu_seconds == found.trained.cpu_seconds > 0


@pytest.mark.slow
def test_dev_decides(turned: EmbeddedSet, helped: Candidates) -> None:
    for found in (helped, train_candidates(with_pseudo(turned, true=False), QUICK, 0)):
        assert len(found.dev_ndcg) > 1
        assert LABELLED in found.dev_ndcg
        assert found.dev_ndcg[found.chosen] == max(found.dev_ndcg.values()) == found.trained.best_ndcg
        # Held-out pseudo-questions fill the dev questions up.
        assert found.dev.ids[: len(turned.splits["dev"])] == turned.splits["dev"].ids
        assert len(found.dev) == min(FILLED, len(turned.splits["dev"]) + HELD_OUT)
        predictions = predict(found.trained.model, found.dev.vectors)
        assert dev_ndcg(predictions, found.dev, turned.vectors) == pytest.approx(found.trained.best_ndcg)
        assert found.cpu_seconds > found.trained.cpu_seconds


def test_good_sentences_help_and_are_among_the_questions(turned: EmbeddedSet, helped: Candidates) -> None:
    assert helped.dev_ndcg[helped.chosen] > helped.dev_ndcg[LABELLED] + 0.1
    # What the gate is to call familiar: everything that was trained on.
    train = turned.splits["train"]
    asked = {vector.tobytes() for vector in helped.questions.vectors}
    assert {vector.tobytes() for vector in train.vectors[:FEW]} < asked <= {v.tobytes() for v in train.vectors}
    assert len(helped.questions.ids) == len(helped.questions.texts) == len(helped.questions.vectors)
    assert (helped.chosen, helped.labelled) == (PSEUDO_FIRST, FEW)
    assert helped.questions.ids[:FEW] == train.ids[:FEW]


@pytest.mark.slow
def test_enough_dev_questions_decide_alone(turned: EmbeddedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "FEWEST_REAL", len(turned.splits["dev"]))
    found = train_candidates(with_pseudo(turned, true=True), QUICK, 0)
    assert found.dev is turned.splits["dev"]


@pytest.mark.slow
def test_pseudo_questions_alone_go_half_the_way(turned: EmbeddedSet) -> None:
    found = train_candidates(turned, QUICK, 0, pseudo_only=True)
    assert (found.chosen, found.labelled, found.questions) == (PSEUDO_ALONE, 0, turned.splits["train"])
    assert found.dev is turned.splits["dev"]
    quick = QUICK.model_copy(update={"steps": QUICK.steps // 2, "batch_size": QUICK.batch_size // 2})
    predictor = JASPERPredictorConfig(embedding_dim=16, mlp=False)
    dev, documents = turned.splits["dev"], turned.vectors
    half = train_predictor(training_pairs(turned), dev, documents, predictor, quick, 0, strength=HALF_WAY)
    for name, tensor in found.trained.model.state_dict().items():
        assert tensor.equal(half.model.state_dict()[name])
    # What is kept is what dev was asked with.
    assert found.dev_ndcg == {PSEUDO_ALONE: pytest.approx(dev_ndcg(predict(half.model, dev.vectors), dev, documents))}
    assert found.dev_ndcg[PSEUDO_ALONE] > dev_ndcg(dev.vectors, dev, documents)


@pytest.mark.slow
def test_training_goes_on_from_where_it_is_told(turned: EmbeddedSet) -> None:
    predictor = JASPERPredictorConfig(embedding_dim=16, mlp=False)
    dev, documents, pairs = turned.splits["dev"], turned.vectors, training_pairs(turned)
    first = train_predictor(pairs, dev, documents, predictor, QUICK, 0)
    before = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    # At a rate of nothing it stays where it started, and that counts as a candidate.
    still = QUICK.model_copy(update={"learning_rate_start": 1e-12, "learning_rate_end": 1e-12})
    again = train_predictor(pairs, dev, documents, predictor, still, 0, start=first.model)
    assert again.best_ndcg == pytest.approx(first.best_ndcg)
    for name, tensor in first.model.state_dict().items():
        assert tensor.equal(before[name])
        np.testing.assert_allclose(again.model.state_dict()[name], tensor, atol=1e-8)


def test_only_a_linear_map_is_weakened(turned: EmbeddedSet) -> None:
    model = JASPERPredictor(JASPERPredictorConfig(embedding_dim=16, mlp=False))
    torch.nn.init.ones_(model.question_map.weight)
    assert weakened(model, 1.0) is model
    asked = turned.splits["dev"].vectors
    np.testing.assert_allclose(
        predict(weakened(model, 0.25), asked), asked + 0.25 * (predict(model, asked) - asked), atol=1e-6
    )
    with pytest.raises(ValueError, match="only a predictor of a residual and a linear path"):
        weakened(JASPERPredictor(JASPERPredictorConfig(embedding_dim=16, hidden_dim=8, num_layers=2)), 0.5)


@pytest.mark.slow
def test_bad_sentences_do_no_harm(turned: EmbeddedSet) -> None:
    given = with_pseudo(turned, true=False)
    found = train_candidates(given, QUICK, 0)
    labelled = train_candidates(replace(given, splits={**given.splits, PSEUDO: given.splits["train"]}), QUICK, 0)
    assert found.trained.best_ndcg >= labelled.dev_ndcg[LABELLED] == found.dev_ndcg[LABELLED]


@pytest.mark.slow
def test_a_seed_decides(turned: EmbeddedSet, helped: Candidates) -> None:
    again = train_candidates(with_pseudo(turned, true=True), QUICK, 0)
    assert (again.chosen, again.dev_ndcg) == (helped.chosen, helped.dev_ndcg)
    for name, tensor in again.trained.model.state_dict().items():
        assert tensor.equal(helped.trained.model.state_dict()[name])
