from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from jasper_rag.embedding.document_vectors import DocumentVectors, Passages
from jasper_rag.embedding.embedded_set import EmbeddedQueries, EmbeddedSet, text_groups
from jasper_rag.metrics.judgements import Judgements
from jasper_rag.text.records import Document
from jasper_rag.training.training_pairs import TrainingPairs, _text_groups, known_positives, training_pairs

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
    return EmbeddedSet("small", documents, DocumentVectors(vectors), splits, text_groups(documents), {})


def names(pairs: TrainingPairs, of: EmbeddedSet) -> list[str]:
    """The document each source row was made of."""
    found = [np.flatnonzero((of.vectors.vectors == source).all(axis=1)).tolist() for source in pairs.sources.numpy()]
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
    groups = _text_groups(["Who?", "What", "who"])
    known = known_positives(groups, np.array([0, 1, 2, 2]), np.array([3, 1, 2, 3]))
    assert [sorted(row[row >= 0].tolist()) for row in known] == [[2, 3], [1], [2, 3]]


def cut_up(of: EmbeddedSet, seed: int) -> EmbeddedSet:
    """The same set with 1 to 4 passages of each document."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 5, len(of.documents))
    starts, rows = np.cumsum(counts) - counts, int(counts.sum())
    vectors = generator.standard_normal((rows, 4)).astype(np.float32)
    return replace(of, vectors=DocumentVectors(vectors, Passages(starts, np.zeros((rows, 2), dtype=np.int64))))


def passage_rows(of: EmbeddedSet, document: int) -> list[int]:
    assert of.vectors.passages is not None
    starts = [*of.vectors.passages.starts.tolist(), len(of.vectors.vectors)]
    return list(range(starts[document], starts[document + 1]))


def positives_by_hand(of: EmbeddedSet) -> list[dict[int, int]]:
    """For each train question its sources, copies as their first, with the highest grade."""
    train = of.splits["train"]
    found: list[dict[int, int]] = []
    for row in range(len(train)):
        entries = range(train.judgements.indptr[row], train.judgements.indptr[row + 1])
        grades: dict[int, int] = {}
        for document, grade in ((train.judgements.documents[e], int(train.judgements.grades[e])) for e in entries):
            if document >= 0 and grade > 0:
                source = int(of.text_group[document])
                grades[source] = max(grade, grades.get(source, 0))
        found.append(grades)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_question_aims_at_the_nearest_passage_and_spares_the_others(seed: int) -> None:
    train = {"q0": {"c": 1, "copy": 2}, "q1": {"b": 3, "a": 1, "gone": 2}, "q2": {"c": 0}, "q3": {"dev": 1}}
    given = cut_up(embedded(train), seed)
    pairs = training_pairs(given)
    questions, positives = given.splits["train"].vectors, positives_by_hand(given)
    documents = sorted({document for one in positives for document in one})
    rows = [row for document in documents for row in passage_rows(given, document)]
    np.testing.assert_array_equal(pairs.sources.numpy(), given.vectors.vectors[rows])
    place = {row: number for number, row in enumerate(rows)}
    expected = [
        [
            number,
            place[max(passage_rows(given, document), key=lambda row: questions[number] @ given.vectors.vectors[row])],
        ]
        for number, grades in enumerate(positives)
        for document in sorted(grades)
    ]
    assert pairs.pairs.tolist() == expected
    assert pairs.relevance.tolist() == [
        pytest.approx(grades[document] / max(grades.values())) for grades in positives for document in sorted(grades)
    ]
    for known, grades in zip(pairs.known_positives.tolist(), positives, strict=True):
        spared = [place[row] for document in sorted(grades) for row in passage_rows(given, document)]
        assert sorted(row for row in known if row >= 0) == spared


def test_questions_of_equal_text_spare_each_others_passages() -> None:
    given = cut_up(embedded({"Who?": {"a": 1}, "who": {"b": 1}, "what": {"c": 1}}), 0)
    known = [{row for row in rows if row >= 0} for rows in training_pairs(given).known_positives.tolist()]
    a, b, c = (len(passage_rows(given, document)) for document in (0, 1, 4))
    assert known == [set(range(a + b)), set(range(a + b)), set(range(a + b, a + b + c))]


def test_one_passage_each_is_as_whole_documents() -> None:
    whole = embedded({"q0": {"c": 1, "a": 2}, "q1": {"b": 1}})
    places = Passages(np.arange(len(TEXTS)), np.zeros((len(TEXTS), 2), dtype=np.int64))
    one_each = training_pairs(replace(whole, vectors=DocumentVectors(whole.vectors.vectors, places)))
    for name in ("questions", "sources", "pairs", "known_positives", "relevance"):
        np.testing.assert_array_equal(getattr(one_each, name).numpy(), getattr(training_pairs(whole), name).numpy())


def test_another_split_can_be_the_train_split() -> None:
    given = embedded({"q0": {"a": 1}})
    assert names(training_pairs(given, "dev"), given) == ["dev"]
