from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.text.training_questions import PSEUDO
from jasper_rag.training.candidates import LABELLED, Candidates, train_candidates
from jasper_rag.training.predictor_training import dev_ndcg, predict, train_predictor
from jasper_rag.training.predictor_training_config import PredictorTrainingConfig
from jasper_rag.training.training_pairs import training_pairs

QUICK = PredictorTrainingConfig(
    temperature=0.03, steps=30, evaluations=6, batch_size=32, learning_rate_start=1e-3, learning_rate_end=3e-2
)
FEW = 8


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
    splits = {"train": part(train, range(FEW)), "dev": turned.splits["dev"], PSEUDO: others}
    return replace(turned, splits=splits)


@pytest.fixture(scope="module")
def helped(turned: EmbeddedSet) -> Candidates:
    return train_candidates(with_pseudo(turned, true=True), QUICK, 0)


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


def test_dev_decides(turned: EmbeddedSet, helped: Candidates) -> None:
    for found in (helped, train_candidates(with_pseudo(turned, true=False), QUICK, 0)):
        assert len(found.dev_ndcg) > 1
        assert LABELLED in found.dev_ndcg
        assert found.dev_ndcg[found.chosen] == max(found.dev_ndcg.values()) == found.trained.best_ndcg
        dev = turned.splits["dev"]
        predictions = predict(found.trained.model, dev.vectors)
        assert dev_ndcg(predictions, dev, turned.vectors) == pytest.approx(found.trained.best_ndcg)
        assert found.cpu_seconds > found.trained.cpu_seconds


def test_good_sentences_help_and_are_among_the_questions(turned: EmbeddedSet, helped: Candidates) -> None:
    assert helped.dev_ndcg[helped.chosen] > helped.dev_ndcg[LABELLED] + 0.1
    # What the gate is to call familiar: everything that was trained on.
    train = turned.splits["train"]
    asked = {vector.tobytes() for vector in helped.questions.vectors}
    assert {vector.tobytes() for vector in train.vectors[:FEW]} < asked <= {v.tobytes() for v in train.vectors}
    assert len(helped.questions.ids) == len(helped.questions.texts) == len(helped.questions.vectors)


def test_bad_sentences_do_no_harm(turned: EmbeddedSet) -> None:
    given = with_pseudo(turned, true=False)
    found = train_candidates(given, QUICK, 0)
    labelled = train_candidates(replace(given, splits={**given.splits, PSEUDO: given.splits["train"]}), QUICK, 0)
    assert found.trained.best_ndcg >= labelled.dev_ndcg[LABELLED] == found.dev_ndcg[LABELLED]


def test_a_seed_decides(turned: EmbeddedSet, helped: Candidates) -> None:
    again = train_candidates(with_pseudo(turned, true=True), QUICK, 0)
    assert (again.chosen, again.dev_ndcg) == (helped.chosen, helped.dev_ndcg)
    for name, tensor in again.trained.model.state_dict().items():
        assert tensor.equal(helped.trained.model.state_dict()[name])
