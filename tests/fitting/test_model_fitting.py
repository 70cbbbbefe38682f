from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

import jasper_rag
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Role, Vectors
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.text.records import RetrievalSet

HASTY = load_config(overrides={"training.steps": 2})
"""For what does not ask whether anything was learnt."""


class Untouched:
    """An encoder that must not be asked."""

    def encode(self, texts: Sequence[str], role: Role) -> Vectors:
        raise AssertionError("the encoder was used")


@pytest.mark.slow
def test_documents_and_questions_are_enough(synonym_set: RetrievalSet, word_encoder: Encoder) -> None:
    corpus = {document.id: document.content for document in synonym_set.documents[:40]}
    questions = [(query.text, f"d{query.id[1:]}") for query in synonym_set.queries[:40]]
    jasper = jasper_rag.Jasper.fit(corpus, questions, encoder=word_encoder, config=HASTY)
    assert len(jasper.search("car", k=5)) == 5
    by_position = [(query.text, row) for row, query in enumerate(synonym_set.queries[:40])]
    same = Jasper.fit(list(corpus.values()), by_position, encoder=word_encoder, config=HASTY)
    assert {hit.document.text for hit in same.search("car", 40)} == set(corpus.values())


@pytest.mark.slow
def test_three_questions_are_the_least(synonym_set: RetrievalSet, word_encoder: Encoder) -> None:
    def few(count: int) -> RetrievalSet:
        qrels = {f"q{n}": {f"d{n}": 1} for n in range(count)}
        return dataclasses.replace(synonym_set, documents=synonym_set.documents[:5], qrels={"all": qrels})

    config = load_config(overrides={"training.steps": 2, "pseudo_questions.fewest_labelled": 2})
    jasper = Jasper.fit(few(3), encoder=word_encoder, config=config)
    assert len(jasper.search("car", 10)) == 5
    with pytest.raises(InputError, match="2 questions in 2 groups") as caught:
        Jasper.fit(few(2), encoder=Untouched(), config=config)
    assert "at least 3 questions" in caught.value.remedy


@pytest.mark.slow
def test_settings_reach_the_fit(synonym_set: RetrievalSet, word_encoder: Encoder) -> None:
    overrides = {"guard.gate": False, "training.steps": 4, "language": "none"}
    jasper = Jasper.fit(synonym_set, encoder=word_encoder, config=load_config(overrides=overrides))
    assert jasper.model.guard.gate is None
    assert jasper.model.lexical is not None
    assert jasper.model.lexical.language == "none"
    assert jasper.record is not None
    assert max(row["step"] for row in jasper.record.candidates.trained.history) == 4


@pytest.mark.slow
def test_an_encoder_that_cuts_texts_says_how_many(synonym_set: RetrievalSet, word_encoder: Encoder) -> None:
    class Cutting:
        encode = word_encoder.encode

        def truncated_share(self, texts: Sequence[str]) -> float:
            return len(texts) / 320

    record = Jasper.fit(synonym_set, encoder=Cutting(), config=HASTY).record
    assert record is not None
    assert record.truncated_share == 0.5


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        (
            lambda s: dataclasses.replace(s, qrels={}),
            "has 0 labelled pairs, and its 160 documents gave 0 sentences",
            "at least 20 labelled pairs",
        ),
        (
            lambda s: dataclasses.replace(s, qrels={"test": s.qrels["all"]}),
            "has 0 labelled pairs, and its 160 documents gave 0 sentences",
            "documents with whole sentences",
        ),
        (
            lambda s: dataclasses.replace(s, qrels={"train": s.qrels["all"], "extra": {"q0": {"d0": 1}}}),
            "splits 'extra' beside 'train'",
            "Name the splits train, dev and test",
        ),
        (
            lambda s: dataclasses.replace(s, qrels={"all": {f"q{n}": {f"d{n}": int(n == 0)} for n in range(9)}}),
            "has 1 labelled pairs",
            "at least 20 labelled pairs",
        ),
        (
            lambda s: dataclasses.replace(s, qrels={"train": s.qrels["all"], "test": {"q0": {"d0": 0}}}),
            "no question of synonyms, split 'test', has a relevant document",
            "leave the split out",
        ),
        (
            lambda s: dataclasses.replace(
                s, documents=tuple(dataclasses.replace(d, text="A", title="") for d in s.documents)
            ),
            "the 160 documents of synonyms all have the same text",
            "two documents that differ",
        ),
    ],
)
def test_a_set_that_cannot_be_learnt_from_is_refused_before_any_encoding(
    synonym_set: RetrievalSet, change: Callable[[RetrievalSet], RetrievalSet], problem: str, remedy: str
) -> None:
    with pytest.raises(InputError) as caught:
        Jasper.fit(change(synonym_set), encoder=Untouched())
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.slow
def test_bad_arguments_are_refused_before_any_encoding(synonym_set: RetrievalSet) -> None:
    with pytest.raises(InputError, match="its 2 documents gave 0 sentences"):
        Jasper.fit(["one text", "another"], encoder=Untouched())
    with pytest.raises(InputError, match="questions beside it"):
        Jasper.fit(synonym_set, [("a question", 0)], encoder=Untouched())
    with pytest.raises(InputError, match="unknown language 'klingon'"):
        Jasper.fit(synonym_set, encoder=Untouched(), config=JasperConfig(language="klingon"))
    with pytest.raises(InputError, match="an encoder cannot be made of int"):
        Jasper.fit(synonym_set, encoder=3)
