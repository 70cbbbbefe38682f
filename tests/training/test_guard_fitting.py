from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.metrics.significance import paired_randomisation
from jasper_rag.models.corpus_gate import CorpusGate
from jasper_rag.models.guard import Vectors, unit
from jasper_rag.training.guard_fitting import FittedGuard, fit_corpus_gate, fit_guard
from jasper_rag.training.predictor_training_config import GuardConfig


def fit(
    given: EmbeddedSet, predictions: Vectors, *, dev: EmbeddedQueries | None = None, **settings: Any
) -> FittedGuard:
    train = given.splits["train"].vectors
    return fit_guard(train, dev or given.splits["dev"], predictions, given.vectors, GuardConfig(**settings), seed=7)


def towards_the_answer(given: EmbeddedSet, spread: float = 0.3) -> Vectors:
    """Predictions better than the question, but not perfect."""
    noise = np.random.default_rng(1).standard_normal((80, 16))
    return unit((given.vectors.vectors[120:200] + spread * noise).astype(np.float32))


def noise(seed: int = 2) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((80, 16)).astype(np.float32))


def ndcg_by_hand(queries: Vectors, given: EmbeddedSet) -> np.ndarray:
    values = []
    for query, answer in zip(queries, given.splits["dev"].judgements.documents, strict=True):
        order = sorted(range(200), key=lambda row: -float(query @ given.vectors.vectors[row]))
        rank = 1 + order.index(answer)
        values.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
    return np.array(values)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0.1, 0.3, 0.5])
def test_alpha_is_the_best_of_the_grid(turned: EmbeddedSet, step: float) -> None:
    predictions, questions = towards_the_answer(turned), turned.splits["dev"].vectors
    fitted = fit(turned, predictions, alpha_step=step)
    grid = {0.1: [i / 10 for i in range(11)], 0.3: [0, 0.3, 0.6, 0.9, 1], 0.5: [0, 0.5, 1]}[step]
    values = {alpha: ndcg_by_hand(unit((1 - alpha) * questions + alpha * predictions), turned) for alpha in grid}
    curve = {alpha: value.mean() for alpha, value in values.items()}
    assert list(fitted.curve) == pytest.approx(grid)
    assert list(fitted.curve.values()) == pytest.approx(list(curve.values()))
    best = max(curve, key=lambda alpha: curve[alpha])
    assert best > 0
    assert fitted.guard.alpha == pytest.approx(best)
    assert fitted.p_value == pytest.approx(paired_randomisation(values[best], values[0], 7))
    assert fitted.p_value < 0.01


@pytest.mark.slow
def test_equal_values_take_the_smaller_alpha(turned: EmbeddedSet) -> None:
    # Questions on their answers, predictions too: every alpha is as good as 0.
    dev = replace(turned.splits["dev"], vectors=turned.vectors.vectors[120:200])
    fitted = fit(turned, turned.vectors.vectors[120:200], dev=dev)
    assert set(fitted.curve.values()) == {1.0}
    assert (fitted.guard.alpha, fitted.p_value) == (0.0, 1.0)
    # Predictions on the answers: from some alpha on, all are as good as 1.
    fitted = fit(turned, turned.vectors.vectors[120:200])
    perfect = [alpha for alpha, value in fitted.curve.items() if value == 1.0]
    assert len(perfect) > 2
    assert fitted.guard.alpha == min(perfect)


@pytest.mark.parametrize("seed", range(3))
def test_noise_ships_the_plain_encoder(turned: EmbeddedSet, seed: int) -> None:
    assert fit(turned, noise(seed)).guard.alpha == 0.0


@pytest.mark.slow
def test_a_gain_that_may_be_chance_ships_the_plain_encoder(turned: EmbeddedSet) -> None:
    # Two questions out of 80 get better, the rest stays: p is about 1/2.
    questions = turned.splits["dev"].vectors
    improved = ndcg_by_hand(questions, turned).argsort()[:2]
    predictions = questions.copy()
    predictions[improved] = turned.vectors.vectors[120 + improved]
    fitted = fit(turned, predictions)
    assert max(fitted.curve.values()) > fitted.curve[0.0]
    assert fitted.p_value == pytest.approx(0.5, abs=0.03)
    assert fitted.guard.alpha == 0.0
    assert fit(turned, predictions, significance=0.6).guard.alpha > 0.0


def test_gate_is_made_of_dev_quantiles(turned: EmbeddedSet) -> None:
    fitted = fit(turned, noise(), gate_low=0.05, gate_high=0.4, neighbours=3)
    train, dev = turned.splits["train"].vectors, turned.splits["dev"].vectors
    familiarity = [np.mean(sorted(train @ question)[-3:]) for question in dev]
    gate = fitted.guard.gate
    assert gate is not None
    np.testing.assert_array_equal(gate.bank, train)
    assert (gate.low, gate.high) == pytest.approx(tuple(np.quantile(familiarity, [0.05, 0.4])), abs=1e-5)
    openness = gate.openness(dev)
    assert (openness == 0).mean() == pytest.approx(0.05, abs=0.02)
    assert fitted.open_share == pytest.approx(0.6, abs=0.02) == (openness == 1).mean()


@pytest.mark.slow
def test_bank_is_a_sample_decided_by_the_seed(turned: EmbeddedSet) -> None:
    train = turned.splits["train"].vectors
    first, again = (fit(turned, noise(), bank_size=30).guard.gate for _ in range(2))
    other = fit_guard(train, turned.splits["dev"], noise(), turned.vectors, GuardConfig(bank_size=30), 8).guard.gate
    assert first is not None
    assert again is not None
    assert other is not None
    rows = [int(np.flatnonzero((train == vector).all(axis=1))[0]) for vector in first.bank]
    assert len(set(rows)) == 30
    np.testing.assert_array_equal(first.bank, again.bank)
    assert not np.array_equal(first.bank, other.bank)


@pytest.mark.parametrize(("labelled", "size"), [(30, 50), (50, 50), (80, 50), (0, 50), (120, 200)])
def test_questions_that_people_asked_come_first_into_the_bank(turned: EmbeddedSet, labelled: int, size: int) -> None:
    train = turned.splits["train"].vectors
    config = GuardConfig(bank_size=size)
    arguments = (train, turned.splits["dev"], noise(), turned.vectors, config, 3)
    gate = fit_guard(*arguments, labelled=labelled).guard.gate
    assert gate is not None
    rows = [int(np.flatnonzero((train == vector).all(axis=1))[0]) for vector in gate.bank]
    assert len(set(rows)) == min(size, len(train))
    assert sum(row < labelled for row in rows) == min(size, labelled)


def test_far_away_questions_keep_the_plain_vector_to_the_bit() -> None:
    generator = np.random.default_rng(0)

    def half(count: int, first: int) -> Vectors:
        vectors = np.zeros((count, 16), dtype=np.float32)
        vectors[:, first : first + 8] = generator.standard_normal((count, 8))
        return unit(vectors)

    documents, answers = half(200, 0), np.arange(40)
    near = unit(documents[answers] + half(40, 0))
    judgements = Judgements(np.arange(41), answers, np.ones_like(answers))
    dev = EmbeddedQueries(tuple(map(str, answers)), tuple(map(str, answers)), near, judgements)
    train, corpus = unit(near + 0.3 * half(40, 0)), DocumentVectors(documents)
    fitted = fit_guard(train, dev, documents[answers], corpus, GuardConfig(), 0)
    assert fitted.guard.alpha > 0
    far = half(25, 8)
    gate = fitted.guard.gate
    assert gate is not None
    assert not gate.openness(far).any()
    np.testing.assert_array_equal(fitted.guard.blend(far, half(25, 0)), far)
    assert not np.array_equal(fitted.guard.blend(far, half(25, 0), gated=False), far)


def test_without_a_gate_every_question_is_open(turned: EmbeddedSet) -> None:
    fitted = fit(turned, towards_the_answer(turned), gate=False)
    assert fitted.guard.gate is None
    assert fitted.open_share == 1.0


def test_equal_dev_questions_still_make_a_gate(turned: EmbeddedSet) -> None:
    dev = turned.splits["dev"]
    fitted = fit(turned, noise(), dev=replace(dev, vectors=np.repeat(dev.vectors[:1], 80, axis=0)))
    gate = fitted.guard.gate
    assert gate is not None
    assert gate.high == pytest.approx(gate.low + 1e-6)


def corpus_gate(given: EmbeddedSet, rows: range = range(120), seed: int = 7, **settings: Any) -> CorpusGate:
    """Of questions that ask for the documents `rows`."""
    judgements = Judgements(np.arange(len(rows) + 1), np.array(rows), np.ones(len(rows), dtype=np.int64))
    ids = tuple(map(str, rows))
    questions = EmbeddedQueries(ids, ids, given.vectors.vectors[list(rows)], judgements)
    fitted = fit_corpus_gate(given, questions, GuardConfig(**settings), seed)
    assert fitted is not None
    return fitted


def mean_of_nearest(documents: Vectors, bank: Vectors, count: int, first: int = 0) -> list[float]:
    return [float(np.mean(sorted(bank @ document)[::-1][first : first + count])) for document in documents]


def test_typical_is_the_median_of_documents_not_asked_for(turned: EmbeddedSet) -> None:
    vectors = turned.vectors.vectors
    gate = corpus_gate(turned, neighbours=3, corpus_low=0.2, corpus_high=0.4)
    np.testing.assert_array_equal(gate.bank, vectors[:120])
    assert gate.typical == pytest.approx(np.median(mean_of_nearest(vectors[120:], vectors[:120], 3)))
    assert (gate.low, gate.high, gate.neighbours) == (0.2, 0.4, 3)
    assert gate.openness(vectors) == 1.0
    assert gate.share(vectors[120:]) == pytest.approx(1.0, abs=0.03)


def test_where_all_documents_are_asked_for_the_sources_are_compared_with_each_other(turned: EmbeddedSet) -> None:
    vectors = turned.vectors.vectors
    # 19 documents are left over: too few to say what is typical.
    gate = corpus_gate(turned, range(181), neighbours=2)
    assert gate.typical == pytest.approx(np.median(mean_of_nearest(vectors[:181], vectors[:181], 2, first=1)))
    assert gate.openness(vectors) == 1.0
    assert corpus_gate(turned, range(180), neighbours=2).typical != gate.typical


def test_a_single_source_leaves_every_corpus_open(turned: EmbeddedSet) -> None:
    vectors = turned.vectors.vectors
    alone = replace(turned, vectors=DocumentVectors(vectors[:1]), text_group=np.zeros(1, dtype=np.int64))
    assert corpus_gate(alone, range(1)).openness(vectors) == 1.0


def test_a_document_with_the_text_of_a_source_is_a_source(turned: EmbeddedSet) -> None:
    groups = turned.text_group.copy()
    groups[150:] = 0
    gate = corpus_gate(replace(turned, text_group=groups))
    np.testing.assert_array_equal(gate.bank, turned.vectors.vectors[[*range(120), *range(150, 200)]])


def test_passages_of_a_source_are_sources(turned: EmbeddedSet) -> None:
    starts = np.arange(0, 200, 2)
    passages = Passages(starts, np.zeros((200, 2), dtype=np.int64))
    cut = replace(turned, vectors=DocumentVectors(turned.vectors.vectors, passages), text_group=np.arange(100))
    gate = corpus_gate(cut, range(30))
    np.testing.assert_array_equal(gate.bank, turned.vectors.vectors[:60])


def test_irrelevant_and_foreign_documents_are_not_sources(turned: EmbeddedSet) -> None:
    judgements = Judgements(np.array([0, 3]), np.array([4, 5, -1]), np.array([1, 0, 2]))
    asked = EmbeddedQueries(("q",), ("q",), turned.vectors.vectors[:1], judgements)
    gate = fit_corpus_gate(turned, asked, GuardConfig(), 0)
    assert gate is not None
    np.testing.assert_array_equal(gate.bank, turned.vectors.vectors[4:5])


def test_a_corpus_elsewhere_is_closed(turned: EmbeddedSet) -> None:
    generator = np.random.default_rng(3)
    home = unit((generator.standard_normal((200, 16)) + 2).astype(np.float32))
    gate = corpus_gate(replace(turned, vectors=DocumentVectors(home)))
    foreign = unit((generator.standard_normal((300, 16)) - 2).astype(np.float32))
    assert gate.openness(foreign) == 0.0
    assert gate.openness(home) == 1.0
    # New documents of the same kind, and the old corpus with foreign ones beside it.
    assert gate.openness(unit((generator.standard_normal((200, 16)) + 2).astype(np.float32))) == 1.0
    assert gate.openness(np.concatenate([home, foreign])) == 1.0


def test_corpus_bank_is_a_sample_decided_by_the_seed(turned: EmbeddedSet) -> None:
    first, again, other = (corpus_gate(turned, seed=seed, bank_size=30).bank for seed in (1, 1, 2))
    assert len(np.unique(first, axis=0)) == 30
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_corpus_gate_can_be_switched_off(turned: EmbeddedSet) -> None:
    assert fit_corpus_gate(turned, turned.splits["train"], GuardConfig(corpus_gate=False), 0) is None
