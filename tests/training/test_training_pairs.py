from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet, text_groups
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.records import Document
from jasper_rag.training.training_pairs import TrainingPairs, _known_positives, training_pairs

TEXTS = {"a": "Alpha.", "b": "beta", "copy": "ALPHA", "dev": "gamma", "c": "delta", "unused": "epsilon"}


def embedded(train: Mapping[str, Mapping[str, int]]) -> EmbeddedSet:
    """Documents named as in TEXTS; "dev" answers the one dev question. Judged ids may be unknown."""
    documents = tuple(Document(key, text) for key, text in TEXTS.items())
    rows = {key: row for row, key in enumerate(TEXTS)}
    generator = np.random.default_rng(0)

    def queries(qrels: Mapping[str, Mapping[str, int]]) -> EmbeddedQueries:
        vectors = generator.standard_normal((len(qrels), 4)).astype(np.float32)
        return EmbeddedQueries(tuple(qrels), tuple(qrels), vectors, Judgements.from_qrels(qrels, list(qrels), rows))

    vectors = generator.standard_normal((len(documents), 4)).astype(np.float32)
    splits = {"train": queries(train), "dev": queries({"d": {"dev": 1}})}
    return EmbeddedSet("small", documents, vectors, splits, text_groups(documents), {})


def names(pairs: TrainingPairs, of: EmbeddedSet) -> list[str]:
    """The document each source row was made of."""
    found = [np.flatnonzero((of.vectors == source).all(axis=1)).tolist() for source in pairs.sources.numpy()]
    assert all(len(rows) == 1 for rows in found)
    return [of.documents[rows[0]].id for rows in found]


def test_pairs_are_those_of_a_loop_over_the_judgements() -> None:
    given = embedded({"q0": {"c": 1, "a": 2}, "q1": {"b": 0, "c": 3}, "q2": {"b": 1}})
    pairs = training_pairs(given)
    assert names(pairs, given) == ["a", "b", "c"]
    # Questions in their order; the sources of one question by their row in the corpus.
    assert pairs.pairs.tolist() == [[0, 0], [0, 2], [1, 2], [2, 1]]
    assert pairs.relevance.tolist() == [1.0, 0.5, 1.0, 1.0]
    assert pairs.known_positives.tolist() == [[0, 2], [2, -1], [1, -1]]
    assert len(pairs) == 4
    np.testing.assert_array_equal(pairs.questions.numpy(), given.splits["train"].vectors)


def test_equal_texts_are_one_source() -> None:
    given = embedded({"q0": {"copy": 1}, "q1": {"a": 1, "b": 1}, "q2": {"b": 2}})
    pairs = training_pairs(given)
    assert names(pairs, given) == ["a", "b"]
    assert pairs.pairs.tolist() == [[0, 0], [1, 0], [1, 1], [2, 1]]
    assert pairs.known_positives.tolist() == [[0, -1], [0, 1], [1, -1]]


def test_copies_judged_for_one_question_are_one_pair_with_the_higher_relevance() -> None:
    pairs = training_pairs(embedded({"q0": {"a": 1, "b": 2, "copy": 4}, "q1": {"copy": 3, "a": 0}}))
    assert pairs.pairs.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert pairs.relevance.tolist() == [1.0, 0.5, 1.0]


def test_documents_of_other_splits_are_no_sources() -> None:
    given = embedded({"q0": {"a": 1}})
    assert names(training_pairs(given), given) == ["a"]
    # Asked for in train as well, it is one.
    given = embedded({"q0": {"a": 1, "dev": 1}})
    assert names(training_pairs(given), given) == ["a", "dev"]


def test_judged_documents_outside_the_corpus_are_skipped() -> None:
    pairs = training_pairs(embedded({"q0": {"gone": 9}, "q1": {"gone": 3, "lost": 1, "b": 2}, "q2": {"b": -1}}))
    assert pairs.pairs.tolist() == [[1, 0]]
    assert pairs.relevance.tolist() == [1.0]
    assert pairs.known_positives.tolist() == [[-1], [0], [-1]]


def test_dtypes_are_what_the_loss_indexes_with() -> None:
    pairs = training_pairs(embedded({"q0": {"a": 1}}))
    assert {str(t.dtype) for t in (pairs.pairs, pairs.known_positives)} == {"torch.int64"}
    assert {str(t.dtype) for t in (pairs.questions, pairs.sources, pairs.relevance)} == {"torch.float32"}


@pytest.mark.parametrize("train", [{"q0": {"a": 0}}, {"q0": {"a": 0, "gone": 1}}])
def test_a_train_split_without_a_pair_is_refused(train: Mapping[str, Mapping[str, int]]) -> None:
    with pytest.raises(ValueError, match="no question with a relevant document in the corpus"):
        training_pairs(embedded(train))


def test_questions_of_equal_text_share_their_known_positives() -> None:
    known = _known_positives(["Who?", "What", "who"], np.array([0, 1, 2, 2]), np.array([3, 1, 2, 3]))
    assert [sorted(row[row >= 0].tolist()) for row in known] == [[2, 3], [1], [2, 3]]
