from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.encoder_choice import GIVEN_VECTORS
from jasper_rag.errors import InputError
from jasper_rag.fitting.fit_sources import as_set, unit_vectors
from jasper_rag.jasper import FitRecord, Jasper
from jasper_rag.jasper_config import JasperConfig, load_config
from jasper_rag.run_directory import write_fit
from jasper_rag.run_report import facts
from jasper_rag.text.records import Document, RetrievalSet

pytestmark = pytest.mark.slow

DENSE = ["plain", "linear_adapter", "jasper_ungated", "jasper"]
QUESTION = "automobile or physician or road?"


@pytest.fixture(scope="module")
def vectors(synonym_set: RetrievalSet, fitted: Jasper) -> tuple[Vectors, Vectors]:
    """The vectors of documents and queries, as the encoder of `fitted` makes them."""
    documents = fitted.encoder.encode([document.content for document in synonym_set.documents], "document")
    return documents, fitted.encoder.encode([query.text for query in synonym_set.queries], "query")


@pytest.fixture(scope="module")
def wordless(synonym_set: RetrievalSet) -> RetrievalSet:
    """`synonym_set` without a word of text."""
    return dataclasses.replace(
        synonym_set,
        documents=tuple(dataclasses.replace(document, text="", title="") for document in synonym_set.documents),
        queries=tuple(dataclasses.replace(query, text="") for query in synonym_set.queries),
    )


@pytest.fixture(scope="module")
def given(wordless: RetrievalSet, vectors: tuple[Vectors, Vectors], quick_config: JasperConfig) -> Jasper:
    """Fitted on vectors alone."""
    return Jasper.fit_vectors(wordless, *vectors, config=quick_config)


def record_of(jasper: Jasper) -> FitRecord:
    assert jasper.record is not None
    return jasper.record


def timeless(metrics: dict[str, Any]) -> dict[str, Any]:
    systems = {key: figures | {"train_seconds": 0.0} for key, figures in metrics["systems"].items()}
    return metrics | {"systems": systems}


def assert_same_predictor(one: Jasper, other: Jasper) -> None:
    for name, tensor in one.model.predictor.state_dict().items():
        assert tensor.equal(other.model.predictor.state_dict()[name])


def test_vectors_and_texts_give_what_their_encoder_gives(
    synonym_set: RetrievalSet, vectors: tuple[Vectors, Vectors], quick_config: JasperConfig, fitted: Jasper
) -> None:
    jasper = Jasper.fit_vectors(synonym_set, *vectors, config=quick_config)
    assert_same_predictor(jasper, fitted)
    assert (jasper.model.guard.alpha, jasper.model.weights) == (fitted.model.guard.alpha, fitted.model.weights)
    assert timeless(record_of(jasper).to_metrics()) == timeless(record_of(fitted).to_metrics())
    asked = fitted.encoder.encode([QUESTION], "query")
    assert jasper.search_vectors(asked, 20, texts=[QUESTION])[0] == fitted.search(QUESTION, 20)


def test_without_text_the_dense_half_is_the_same(given: Jasper, fitted: Jasper) -> None:
    assert_same_predictor(given, fitted)
    assert given.model.lexical is None
    metrics, full = timeless(record_of(given).to_metrics()), timeless(record_of(fitted).to_metrics())
    assert list(metrics["systems"]) == DENSE
    assert metrics["systems"] == {key: full["systems"][key] for key in DENSE}
    assert (metrics["alpha"], metrics["trained_on"]) == (full["alpha"], full["trained_on"])
    assert "BM25" not in metrics["verdict"]
    assert record_of(given).leaks.clean
    asked = fitted.encoder.encode([QUESTION], "query")
    dense = [(hit.document.id, hit.score) for hit in fitted.search(QUESTION, 20, "dense")]
    for found in (given.search_vectors(asked, 20), given.search_vectors(asked, 20, "hybrid", texts=[QUESTION])):
        assert [(hit.document.id, hit.score) for hit in found[0]] == dense


def test_a_run_without_text_is_written_and_loaded(given: Jasper, word_encoder: Encoder, tmp_path: Path) -> None:
    written = write_fit(given, record_of(given), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == written
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(f"test.{key}.trec" for key in DENSE)
    report = (tmp_path / "report.html").read_text()
    assert metrics["verdict"].split("(")[0] in report
    assert "none: the documents have no text" in report
    loaded = Jasper.load(tmp_path)
    asked = word_encoder.encode([QUESTION], "query")
    assert loaded.model.lexical is None
    assert loaded.model.documents == given.model.documents
    assert loaded.search_vectors(asked) == given.search_vectors(asked)
    # Its encoder, named later, makes questions of texts.
    assert Jasper.load(tmp_path, encoder=word_encoder).search(QUESTION) == given.search_vectors(asked)[0]


def test_questions_in_words_need_an_encoder(given: Jasper) -> None:
    assert given.model.identity.name == GIVEN_VECTORS
    for ask in (lambda: given.search(QUESTION), lambda: given.add([Document("x", "y")])):
        with pytest.raises(InputError, match="fitted on vectors alone"):
            ask()


def test_facts_say_that_there_is_no_text(given: Jasper) -> None:
    found = facts(given, record_of(given))
    assert found["Encoder"] == "vectors given by the user, 24 dimensions"
    assert found["Weight of BM25 in the fusion"] == "none: the documents have no text"
    assert found["Trained on"] == "labelled questions"
    assert "Passages" not in found


Change = Callable[[Vectors, Vectors], tuple[Vectors, Vectors]]


def zero_row(documents: Vectors, queries: Vectors) -> tuple[Vectors, Vectors]:
    return documents, queries * (np.arange(len(queries)) != 5)[:, None].astype(np.float32)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d, q: (d[:-1], q), r"vectors of shape \[159, 24\] for 160 documents"),
        (lambda d, q: (d, q[:9]), r"vectors of shape \[9, 24\] for 160 queries"),
        (lambda d, q: (d[0], q), r"vectors of shape \[24\] for 160 documents"),
        (lambda d, q: (d, q[:, :20]), "documents have 24 dimensions, queries 20"),
        (zero_row, "queries: the vector of row 5 is not finite or all zeros"),
        (lambda d, q: (d * np.float32("nan"), q), "documents: the vector of row 0 is not finite"),
    ],
)
def test_vectors_that_do_not_fit_the_set_are_refused(
    wordless: RetrievalSet, vectors: tuple[Vectors, Vectors], change: Change, problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        Jasper.fit_vectors(wordless, *change(*vectors))
    assert caught.value.field == "vectors"
    assert caught.value.remedy


def test_too_few_judgements_are_refused(wordless: RetrievalSet, vectors: tuple[Vectors, Vectors]) -> None:
    def few(count: int) -> RetrievalSet:
        qrels = {f"q{row}": {f"d{row}": 1} for row in range(count)}
        return dataclasses.replace(wordless, qrels={"all": qrels})

    with pytest.raises(InputError, match="19 labelled pairs to train and decide on"):
        Jasper.fit_vectors(few(19), *vectors)
    with pytest.raises(InputError, match="0 labelled pairs to train and decide on"):
        Jasper.fit_vectors(dataclasses.replace(wordless, qrels={"test": wordless.qrels["all"]}), *vectors)
    enough = Jasper.fit_vectors(few(20), *vectors, config=load_config(overrides={"training.steps": 2}))
    assert record_of(enough).questions.labelled_pairs == 16


def test_settings_that_vectors_cannot_follow_are_refused(
    synonym_set: RetrievalSet, vectors: tuple[Vectors, Vectors]
) -> None:
    with pytest.raises(InputError, match="whole documents cannot be cut") as caught:
        Jasper.fit_vectors(synonym_set, *vectors, config=load_config(overrides={"chunking.how": "sentences"}))
    assert caught.value.field == "chunking.how"
    with pytest.raises(InputError, match="unknown language 'klingon'"):
        Jasper.fit_vectors(synonym_set, *vectors, config=JasperConfig(language="klingon"))


def test_vectors_are_scaled_only_where_they_are_not_of_unit_length(vectors: tuple[Vectors, Vectors]) -> None:
    documents, _ = vectors
    assert unit_vectors(documents, 160, "documents") is documents
    for given_vectors in (documents * 7, documents.astype(np.float64) * 0.01, np.asfortranarray(documents * 2)):
        scaled = unit_vectors(given_vectors, 160, "documents")  # type: ignore[arg-type]
        assert scaled.dtype == np.float32
        assert scaled.flags["C_CONTIGUOUS"]
        np.testing.assert_allclose(scaled, documents, atol=1e-6)


def test_a_corpus_is_a_set_or_becomes_one(synonym_set: RetrievalSet) -> None:
    assert as_set(synonym_set, None) is synonym_set
    made = as_set(["one text", "another"], [("a question", 1)])
    assert (len(made.documents), made.qrels) == (2, {"all": {"q0": {"1": 1}}})
    assert as_set({"a": "one text"}, None).qrels == {}
    with pytest.raises(InputError, match="questions beside it"):
        as_set(synonym_set, [("a question", 0)])
