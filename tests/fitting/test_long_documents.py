"""Documents of many topics, cut into passages: from fit to search, on disk and back."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.vectors import Vectors
from jasper_rag.errors import InputError
from jasper_rag.jasper import FitRecord, Jasper, Ranker
from jasper_rag.jasper_config import load_config
from jasper_rag.models.guard import Guard, unit
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.run_directory import write_fit
from jasper_rag.run_report import facts
from jasper_rag.text.records import Document, Query, RetrievalSet
from jasper_rag.text.split_file import read_splits

pytestmark = pytest.mark.slow

WORDS, PASSAGES = 4, 16
SETTINGS = {"training.steps": 2, "pseudo_questions.use": "never", "language": "none"}
CUT = {"chunking.how": "tokens", "chunking.size": WORDS, "chunking.overlap": 0}
RANKERS: tuple[Ranker, ...] = ("hybrid", "dense", "plain")


@pytest.fixture(scope="module")
def books() -> RetrievalSet:
    """60 documents of 16 passages of 4 words; each is asked for by the words of one passage, shuffled."""
    generator = random.Random(0)
    vocabulary = ["".join(letters) for letters in itertools.product("bdfgklmn", "aeiou", "bdfgkl", "aeiou")]
    documents, queries, qrels = [], [], {}
    for number in range(60):
        words = generator.sample(vocabulary, WORDS * PASSAGES)
        documents.append(Document(f"d{number}", " ".join(words)))
        place = WORDS * generator.randrange(PASSAGES)
        asked = words[place : place + WORDS]
        queries.append(Query(f"q{number}", " ".join(generator.sample(asked, WORDS))))
        qrels[f"q{number}"] = {f"d{number}": 1}
    splits = {"train": range(24), "dev": range(24, 32), "test": range(32, 60)}
    divided = {split: {f"q{row}": qrels[f"q{row}"] for row in rows} for split, rows in splits.items()}
    return RetrievalSet("books", tuple(documents), tuple(queries), divided)


class Cutting:
    """A word encoder that says that it cuts long texts."""

    def __init__(self, encoder: Encoder) -> None:
        self.encode = encoder.encode

    def truncated_share(self, texts: Sequence[str]) -> float:
        return float(np.mean([len(text.split()) > WORDS for text in texts]))


@pytest.fixture(scope="module")
def encoder(fitted: Jasper) -> Encoder:
    return Cutting(fitted.encoder)


@pytest.fixture(scope="module")
def whole(books: RetrievalSet, encoder: Encoder) -> Jasper:
    """Fitted on whole documents."""
    return Jasper.fit(books, encoder=encoder, config=load_config(overrides=SETTINGS))


@pytest.fixture(scope="module")
def cut(books: RetrievalSet, encoder: Encoder) -> Jasper:
    """Fitted on passages."""
    return Jasper.fit(books, encoder=encoder, config=load_config(overrides=SETTINGS | CUT))


def record_of(jasper: Jasper) -> FitRecord:
    assert jasper.record is not None
    return jasper.record


def test_a_passage_is_found_where_the_whole_document_is_not(whole: Jasper, cut: Jasper) -> None:
    systems = {jasper: record_of(jasper).comparison.to_metrics()["systems"] for jasper in (whole, cut)}
    assert systems[whole]["plain"]["ndcg@10"] < 0.6
    assert systems[cut]["plain"]["ndcg@10"] > 0.95
    assert systems[cut]["hybrid"]["ndcg@10"] > 0.95
    # BM25 searches whole documents either way.
    assert systems[cut]["bm25"] == systems[whole]["bm25"] | {"p_value": systems[cut]["bm25"]["p_value"]}


def test_a_hit_shows_the_passage_that_answers(books: RetrievalSet, whole: Jasper, cut: Jasper) -> None:
    questions = {query.id: query.text for query in books.queries}
    for ranker in RANKERS:
        ids = [f"q{row}" for row in range(40, 50)]
        for query, hits in zip(ids, cut.search_many([questions[q] for q in ids], 3, ranker), strict=True):
            assert hits[0].document.id == f"d{query[1:]}"
            assert sorted(hits[0].passage.split()) == sorted(questions[query].split())
            assert all(hit.passage in hit.document.text and len(hit.passage.split()) == WORDS for hit in hits)
        assert {hit.passage for hit in whole.search(questions["q40"], 5, ranker)} == {""}


def test_the_passage_shown_is_the_one_that_scored(cut: Jasper, encoder: Encoder) -> None:
    """Moved and plain question vectors are nearest to different passages of a document."""
    predictor = JASPERPredictor(JASPERPredictorConfig(embedding_dim=24, mlp=False)).eval()
    with torch.no_grad():
        predictor.question_map.weight.normal_(0, 1, generator=torch.Generator().manual_seed(0))
    jasper = Jasper(dataclasses.replace(cut.model, guard=Guard(1.0), predictor=predictor), encoder)
    asked = unit(np.random.default_rng(0).standard_normal((6, 24)).astype(np.float32))
    shown: dict[Ranker, list[str]] = {}
    vectors: dict[Ranker, Vectors] = {"dense": jasper.transform(asked), "plain": asked}
    for ranker, searched in vectors.items():
        found = jasper.search_vectors(asked, 60, ranker)
        for query, hits in zip(searched, found, strict=True):
            scores = encoder.encode([hit.passage for hit in hits], "document") @ query
            assert scores.tolist() == pytest.approx([hit.score for hit in hits], abs=1e-5)
        shown[ranker] = [hit.passage for hit in sorted(found[0], key=lambda hit: hit.document.id)]
    assert sum(map(str.__ne__, shown["dense"], shown["plain"])) > 30


def test_the_record_says_how_documents_were_cut(
    books: RetrievalSet, whole: Jasper, cut: Jasper, tmp_path: Path
) -> None:
    record = record_of(cut)
    passages = record.embedded.vectors.passages
    assert passages is not None
    assert passages.counts().tolist() == [PASSAGES] * 60
    found = facts(cut, record)
    assert found["Passages"] == "960; a document scores as its best one"
    # What the encoder cuts off is no longer a fact about the documents.
    assert (record_of(whole).truncated_share, record.truncated_share) == (1.0, None)
    assert "Passages" not in facts(whole, record_of(whole))
    write_fit(cut, record, tmp_path)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["chunking"] == {
        "how": "tokens",
        "size": WORDS,
        "overlap": 0,
    }
    assert read_splits(books, tmp_path / "splits.json").qrels == books.qrels
    assert json.loads((tmp_path / "metrics.json").read_text())["documents"] == 60


def test_a_loaded_model_cuts_as_the_fit_did(books: RetrievalSet, cut: Jasper, encoder: Encoder, tmp_path: Path) -> None:
    cut.save(tmp_path)
    loaded = Jasper.load(tmp_path, encoder=encoder)
    question = books.queries[50].text
    for ranker in RANKERS:
        assert loaded.search(question, 9, ranker) == cut.search(question, 9, ranker)
    fit = record_of(cut).comparison.to_metrics()["systems"]
    for key, figures in loaded.evaluate(books).to_metrics()["systems"].items():
        assert figures | {"train_seconds": 0} == fit[key] | {"train_seconds": 0}
    new = dataclasses.replace(books.documents[50], id="copy")
    loaded.add([new])
    assert [hit.document.id for hit in loaded.search(question, 2, "plain")] == ["d50", "copy"]
    assert len({hit.passage for hit in loaded.search(question, 2, "plain")}) == 1


def test_settings_that_cannot_cut_are_refused() -> None:
    with pytest.raises(InputError, match="overlap 200 must be below size 200") as caught:
        load_config(overrides={"chunking.how": "tokens", "chunking.overlap": 200})
    assert caught.value.field == "chunking"
    with pytest.raises(InputError, match="'pages'"):
        load_config(overrides={"chunking.how": "pages"})
