from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text import training_questions as training_questions_module
from jasper_rag.text.records import Document, Qrels, Query, RetrievalSet
from jasper_rag.text.splitting import ensure_splits
from jasper_rag.text.training_questions import (
    HELD_OUT,
    PSEUDO,
    PSEUDO_DEV,
    TrainingQuestions,
    labelled_only,
    pairs_of,
    training_questions,
)
from jasper_rag.text.training_questions_config import PseudoQuestionConfig

SEED = 3
SENTENCE = "Passage {} of the {} paper speaks of topic {}."
BLANK = tuple(Document(f"d{row}", "") for row in range(40))
DOCUMENTS = tuple(
    Document(f"d{row}", " ".join(SENTENCE.format(f"n{row}x{part}", "long" * part, row) for part in range(1, 4)))
    for row in range(40)
)
QUERIES = tuple(Query(f"q{row}", f"what is said of {row}") for row in range(40))


def asked(first: int, last: int) -> dict[str, dict[str, int]]:
    """Question r is answered by document r."""
    return {f"q{row}": {f"d{row}": 1} for row in range(first, last)}


def given(
    qrels: Mapping[str, Qrels], documents: tuple[Document, ...] = DOCUMENTS, queries: tuple[Query, ...] = QUERIES
) -> RetrievalSet:
    return RetrievalSet("papers", documents, queries, qrels)


def found(retrieval_set: RetrievalSet, *, encodable: bool = True, **config: Any) -> TrainingQuestions:
    return training_questions(retrieval_set, PseudoQuestionConfig(**config), SEED, encodable=encodable)


def sources(qrels: Qrels) -> set[str]:
    return {document for judged in qrels.values() for document in judged}


def assert_made(made: TrainingQuestions, splits: tuple[str, ...]) -> None:
    """The questions of these splits are words of their documents, in order."""
    text = {query.id: query.text for query in made.retrieval_set.queries}
    content = {document.id: document.text for document in made.retrieval_set.documents}
    for split in splits:
        assert made.retrieval_set.qrels[split]
        for query, judged in made.retrieval_set.qrels[split].items():
            (document,) = judged
            words = iter(content[document].lower().replace(".", " ").split())
            assert all(word in words for word in text[query].lower().rstrip(".").split())


def test_enough_labels_are_taken_as_they_are() -> None:
    labelled = given({"all": asked(0, 40)})
    made = found(labelled, use="never")
    assert made == TrainingQuestions(ensure_splits(labelled, SEED), "labelled", 32, 4, real_dev=4)


def test_given_splits_are_kept() -> None:
    splits = {"train": asked(0, 30), "dev": asked(30, 34), "test": asked(34, 40)}
    made = found(given(splits), use="never")
    assert made.retrieval_set.qrels == splits
    assert (made.kind, made.labelled_pairs, made.real_test) == ("labelled", 30, 6)


def test_sentences_beside_labels_are_a_split_of_their_own() -> None:
    labelled = given({"all": asked(0, 40)})
    made = found(labelled, use="always", per_document=2)
    assert (made.kind, made.labelled_pairs, made.real_test) == ("labelled and pseudo", 32, 4)
    qrels = made.retrieval_set.qrels
    assert set(qrels) == {"train", "dev", "test", PSEUDO, PSEUDO_DEV}
    assert_made(made, (PSEUDO, PSEUDO_DEV))
    # Held out by document.
    assert not sources(qrels[PSEUDO]) & sources(qrels[PSEUDO_DEV])
    per_document = [document for judged in qrels[PSEUDO].values() for document in judged]
    assert max(map(per_document.count, per_document)) <= 2
    # The labels are split as they are without sentences beside them.
    assert labelled_only(made).qrels == ensure_splits(labelled, SEED).qrels
    assert made.retrieval_set.documents == DOCUMENTS
    assert len({query.id for query in made.retrieval_set.queries}) == len(made.retrieval_set.queries)
    assert made.notes


def test_auto_is_for_few_labels() -> None:
    labelled = given({"all": asked(0, 40)})  # 32 of them train
    assert found(labelled, below=33).kind == "labelled and pseudo"
    assert found(labelled, below=32).kind == "labelled"


def test_without_text_there_is_nothing_beside() -> None:
    labelled = given({"all": asked(0, 40)}, documents=BLANK)
    assert found(labelled, use="always").kind == "labelled"
    # A text without a usable sentence is no text either.
    short = tuple(Document(document.id, f"Only {row}") for row, document in enumerate(BLANK))
    assert found(given({"all": asked(0, 40)}, documents=short), use="always").kind == "labelled"


def test_what_has_no_vector_cannot_become_a_question() -> None:
    labelled = given({"all": asked(0, 40)})
    assert found(labelled, encodable=False, use="always").kind == "labelled"
    with pytest.raises(InputError, match="5 labelled pairs to train and decide on") as caught:
        found(given({"all": asked(0, 5)}), encodable=False)
    assert caught.value.field == "qrels"
    assert "at least 20 pairs" in caught.value.remedy


@pytest.mark.parametrize("qrels", [{}, {"all": {}}, {"all": {"q0": {"d0": 0}}}])
def test_documents_alone_ask_for_themselves(qrels: dict[str, dict[str, dict[str, int]]]) -> None:
    made = found(given(qrels))
    splits = made.retrieval_set.qrels
    assert (made.kind, made.labelled_pairs, made.real_test) == ("pseudo", 0, 0)
    assert list(splits) == ["train", "dev", "test"]
    assert_made(made, ("train", "dev", "test"))
    # Held out by document, not by sentence.
    assert not sources(splits["train"]) & sources(splits["dev"])
    assert not (sources(splits["train"]) | sources(splits["dev"])) & sources(splits["test"])
    assert made.retrieval_set.documents == DOCUMENTS
    assert made.notes[-1].startswith("Nothing was verified on real questions")
    assert made.notes[0].startswith("0 labelled pairs to train and decide on (at least 20 are needed)")
    # Quotations are no leaks.
    assert labelled_only(made).qrels == {}


def test_a_few_labels_are_the_real_test_and_nothing_else() -> None:
    made = found(given({"train": asked(0, 8), "dev": asked(8, 12)}))
    splits = made.retrieval_set.qrels
    assert (made.kind, made.labelled_pairs, made.real_test) == ("pseudo", 0, 12)
    assert splits["test"] == asked(0, 12)
    assert not (splits["train"].keys() | splits["dev"].keys()) & {query.id for query in QUERIES}
    assert_made(made, ("train", "dev"))
    assert made.notes[-1] == "Tested on 12 real questions; none of them trained or decided anything."
    assert labelled_only(made).qrels == {"test": asked(0, 12)}


@pytest.mark.slow
def test_a_given_test_split_stays_the_test() -> None:
    for other in ({}, {"train": asked(0, 5)}):
        made = found(given({**other, "test": asked(10, 40)}))
        assert (made.kind, made.real_test) == ("pseudo", 30)
        assert made.retrieval_set.qrels["test"] == asked(10, 40)


@pytest.mark.slow
def test_at_most_so_many_are_made_and_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = tuple(replace(document, id=f"{document.id}x{copy}") for document in DOCUMENTS for copy in range(2))
    many = tuple(replace(d, text=d.text.replace("paper", f"paper{row}")) for row, d in enumerate(documents))
    made = found(given({}, documents=many), most=100)
    assert sum(map(len, made.retrieval_set.qrels.values())) == 100
    # Every document is asked for before any is asked for twice.
    assert len({document for qrels in made.retrieval_set.qrels.values() for document in sources(qrels)}) == 80
    assert HELD_OUT > 20
    monkeypatch.setattr(training_questions_module, "HELD_OUT", 4)
    made = found(given({}, documents=many))
    sizes = [len(made.retrieval_set.qrels[split]) for split in ("train", "dev", "test")]
    assert sizes == pytest.approx([152, 4, 4], abs=2)


@pytest.mark.slow
def test_whole_sentences_on_request() -> None:
    content = {document.id: document.text for document in DOCUMENTS}
    made = found(given({}), form="sentences")
    texts = {query.id: query.text for query in made.retrieval_set.queries}
    for qrels in made.retrieval_set.qrels.values():
        assert all(texts[query] in content[document] for query, judged in qrels.items() for document in judged)
    shorter = {query.id: query.text for query in found(given({})).retrieval_set.queries}
    assert sum(map(len, shorter.values())) < 0.8 * sum(map(len, texts.values()))
    assert made.notes[-1] == "Nothing was verified on real questions: every figure below is of held-out sentences."


@pytest.mark.slow
def test_a_language_has_its_stop_words() -> None:
    text = "Die Maschine {0} und das Werkzeug sind in der Halle {0} zu finden. Der Meister {0} ist in der Halle."
    german = tuple(Document(f"g{row}", text.format(f"a{row}")) for row in range(30))
    for language, expected in (("german", False), ("none", True)):
        settings = PseudoQuestionConfig(per_document=1)
        made = training_questions(given({}, documents=(*german, *DOCUMENTS)), settings, SEED, language=language)
        words = {w for q in made.retrieval_set.queries if q.text.islower() for w in q.text.split()}
        assert bool(words & {"und", "der", "das"}) == expected


@pytest.mark.slow
def test_questions_without_an_answer_do_not_count() -> None:
    unanswered = {"q30": {"d30": 0}, "q31": {"d31": -1}}
    made = found(given({"all": {**asked(0, 4), **unanswered}}))
    assert (made.real_test, made.retrieval_set.qrels["test"]) == (4, asked(0, 4))
    made = found(given({"train": asked(0, 25), "dev": asked(25, 28), "test": {**asked(28, 30), **unanswered}}))
    assert made.real_test == 2


@pytest.mark.parametrize(("fewest", "kind"), [(9, "labelled"), (10, "labelled"), (11, "pseudo"), (0, "labelled")])
def test_how_many_labels_are_enough(fewest: int, kind: str) -> None:
    assert found(given({"all": asked(0, 10)}), fewest_labelled=fewest, use="never").kind == kind
    # Test questions neither train nor decide, however many they are.
    made = found(given({"train": asked(0, 7), "dev": asked(7, 10), "test": asked(10, 40)}), fewest_labelled=fewest)
    assert made.kind.startswith(kind)


@pytest.mark.slow
def test_real_dev_questions_decide_where_none_train() -> None:
    made = found(given({"dev": asked(0, 25), "test": asked(30, 40)}))
    assert (made.kind, made.labelled_pairs, made.real_dev, made.real_test) == ("pseudo", 0, 25, 10)
    assert made.retrieval_set.qrels["dev"] == asked(0, 25)
    assert made.retrieval_set.qrels["test"] == asked(30, 40)
    assert_made(made, ("train",))
    assert "25 real dev questions decide" in made.notes[0]
    assert labelled_only(made).qrels == {"dev": asked(0, 25), "test": asked(30, 40)}
    # Alone they still decide, and held-out pseudo-questions are the test.
    made = found(given({"dev": asked(0, 25)}))
    assert (made.real_dev, made.real_test) == (25, 0)
    assert_made(made, ("train", "test"))
    # Too few to decide: the better test.
    made = found(given({"dev": asked(0, 10)}))
    assert (made.real_dev, made.real_test) == (0, 10)


def test_none_are_never_enough() -> None:
    assert found(given({}), fewest_labelled=0).kind == "pseudo"


@pytest.mark.slow
def test_a_seed_decides() -> None:
    for qrels in ({}, {"all": asked(0, 40)}):
        config = PseudoQuestionConfig(use="always")
        one, again, other = (training_questions(given(qrels), config, seed) for seed in (1, 1, 2))
        assert one == again
        assert one.retrieval_set.qrels != other.retrieval_set.qrels


def test_neither_labels_nor_sentences() -> None:
    with pytest.raises(InputError, match="0 labelled pairs and no text to make questions from") as caught:
        found(given({}, documents=BLANK))
    assert "at least 20 labelled pairs" in caught.value.remedy
    problem = r"papers has 3 labelled pairs, and its 4 documents gave \d sentences"
    with pytest.raises(InputError, match=problem) as caught:
        found(given({"all": asked(0, 3)}, documents=DOCUMENTS[:4]))
    assert "more documents with whole sentences" in caught.value.remedy


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("qrels", [{}, {"q0": {"d0": 0}}])
def test_a_split_that_can_decide_nothing_is_refused(split: str, qrels: dict[str, dict[str, int]]) -> None:
    with pytest.raises(InputError, match=f"no question of papers, split '{split}', has a relevant document") as caught:
        found(given({"train": asked(0, 30), split: qrels}))
    assert caught.value.field == "split"


def test_pairs_are_those_judged_relevant() -> None:
    assert pairs_of({"a": {"x": 1, "y": 0, "z": 3}, "b": {"x": -1}, "c": {}}) == 2
    assert pairs_of({}) == 0


@pytest.mark.parametrize("bad", [{"use": "sometimes"}, {"per_document": 0}, {"below": -1}, {"most": 3}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PseudoQuestionConfig(**bad)
