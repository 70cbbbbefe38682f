from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jasper_rag
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.embedding.sentence_encoder_config import SentenceEncoderConfig
from jasper_rag.errors import InputError
from jasper_rag.jasper import FitRecord, Jasper, Ranker
from jasper_rag.jasper_config import JasperConfig
from jasper_rag.text.records import Document, Query, RetrievalSet
from jasper_rag.training.predictor_training import predict

RANKERS: tuple[Ranker, ...] = ("hybrid", "dense", "plain")
QUESTION = "automobile or physician or road?"


@pytest.fixture(scope="module")
def record(fitted: Jasper) -> FitRecord:
    assert fitted.record is not None
    return fitted.record


def test_retrieval_gets_measurably_better(record: FitRecord) -> None:
    metrics = record.comparison.to_metrics()
    systems = metrics["systems"]
    assert metrics["alpha"] > 0
    assert systems["jasper"]["ndcg@10"] > systems["plain"]["ndcg@10"] + 0.5
    assert systems["hybrid"]["ndcg@10"] > systems["fusion"]["ndcg@10"] + 0.5
    assert metrics["p_value"] < 0.01
    assert "better" in metrics["verdict"]
    assert record.truncated_share is None
    assert record.leaks.clean


def test_hits_are_ranked_and_carry_their_documents(fitted: Jasper, synonym_set: RetrievalSet) -> None:
    for ranker in RANKERS:
        hits = fitted.search(QUESTION, 5, ranker)
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert {hit.document for hit in hits} <= set(synonym_set.documents)


def test_a_question_in_synonyms_finds_its_document(fitted: Jasper, synonym_set: RetrievalSet) -> None:
    record = fitted.record
    assert record is not None
    questions = record.embedded.splits["test"].texts
    wanted = {query.text: f"d{query.id[1:]}" for query in synonym_set.queries}
    found = [hits[0].document.id == wanted[q] for q, hits in zip(questions, fitted.search_many(questions), strict=True)]
    plain = fitted.search_many(questions, ranker="plain")
    found_before = [hits[0].document.id == wanted[q] for q, hits in zip(questions, plain, strict=True)]
    assert sum(found) > sum(found_before) + len(questions) / 2


@pytest.mark.parametrize(("ranker", "system"), [("hybrid", "hybrid"), ("dense", "jasper"), ("plain", "plain")])
def test_search_is_what_the_comparison_measured(fitted: Jasper, record: FitRecord, ranker: Ranker, system: str) -> None:
    run = record.comparison.runs[system]
    found = fitted.search_many(record.embedded.splits["test"].texts, 5, ranker)
    for hits, rows, scores in zip(found, run.rows, run.scores, strict=True):
        assert [hit.document.id for hit in hits] == [f"d{row}" for row in rows[:5]]
        assert [hit.score for hit in hits] == pytest.approx(scores[:5].tolist(), abs=1e-5)


def test_several_questions_give_what_each_gives_alone(fitted: Jasper) -> None:
    together = fitted.search_many([QUESTION, "movie or rock"], 3)
    apart = [fitted.search(QUESTION, 3), fitted.search("movie or rock", 3)]
    for hits, others in zip(together, apart, strict=True):
        assert [hit.document.id for hit in hits] == [other.document.id for other in others]
        assert [hit.score for hit in hits] == pytest.approx([other.score for other in others], abs=1e-5)
    assert fitted.search_many([]) == []


def test_more_documents_than_there_are(fitted: Jasper, synonym_set: RetrievalSet) -> None:
    assert len(fitted.search(QUESTION, 1000)) == len(synonym_set.documents)


@pytest.mark.parametrize(("question", "k", "field"), [("", 5, "question"), (" \n", 5, "question"), ("a", 0, "k")])
def test_unusable_questions_are_refused(fitted: Jasper, question: str, k: int, field: str) -> None:
    with pytest.raises(InputError) as caught:
        fitted.search(question, k)
    assert caught.value.field == field
    assert caught.value.remedy


def test_vectors_search_as_their_texts_do(fitted: Jasper) -> None:
    texts = [QUESTION, "movie or rock"]
    asked = fitted.encoder.encode(texts, "query")
    for ranker in RANKERS:
        assert fitted.search_vectors(asked, 7, ranker, texts=texts) == fitted.search_many(texts, 7, ranker)
    assert fitted.search_vectors(asked, 7, texts=texts) == fitted.search_many(texts, 7)
    # Without words there is no BM25.
    assert fitted.search_vectors(asked, 7) == fitted.search_many(texts, 7, "dense")
    for ranker in RANKERS[1:]:
        assert fitted.search_vectors(asked, 7, ranker) == fitted.search_many(texts, 7, ranker)
    assert fitted.search_vectors(asked[:0]) == []


@pytest.mark.parametrize(
    ("arguments", "field"), [({"ranker": "hybrid"}, "texts"), ({"k": 0}, "k"), ({"k": -3, "ranker": "plain"}, "k")]
)
def test_vectors_that_cannot_be_searched_with(fitted: Jasper, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        fitted.search_vectors(np.eye(1, 24, dtype=np.float32), **arguments)
    assert caught.value.field == field
    with pytest.raises(InputError, match=r"\[questions, 24\]"):
        fitted.search_vectors(np.eye(1, 23, dtype=np.float32), ranker="plain")


def test_transform_is_the_guards_blend(fitted: Jasper, record: FitRecord) -> None:
    questions = record.embedded.splits["test"].vectors
    predictions = predict(fitted.model.predictor, questions)
    for gated in (True, False):
        moved = fitted.transform(questions, gated=gated)
        assert isinstance(moved, np.ndarray)
        assert moved.dtype == np.float32
        assert moved.shape == questions.shape
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(moved, fitted.model.guard.blend(questions, predictions, gated=gated))


def test_the_gate_keeps_unfamiliar_questions_where_they_are(fitted: Jasper) -> None:
    strange = -fitted.model.vectors.vectors[:3]
    gate = fitted.model.guard.gate
    assert gate is not None
    closed = gate.openness(strange) == 0
    assert closed.any()
    np.testing.assert_allclose(fitted.transform(strange)[closed], strange[closed], atol=1e-6)
    assert np.abs(fitted.transform(strange, gated=False)[closed] - strange[closed]).max() > 0.01


def test_transform_takes_vectors_of_any_length_and_precision(fitted: Jasper, record: FitRecord) -> None:
    questions = record.embedded.splits["dev"].vectors
    expected = fitted.transform(questions)
    np.testing.assert_allclose(fitted.transform(questions.astype(np.float64) * 7), expected, atol=1e-5)  # type: ignore[arg-type]
    assert fitted.transform(questions[:0]).shape == (0, 24)


@pytest.mark.parametrize("shape", [(2, 23), (24,), (1, 2, 24)])
def test_transform_refuses_other_widths(fitted: Jasper, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\[questions, 24\] from the encoder words-0"):
        fitted.transform(np.ones(shape, dtype=np.float32))


def test_a_saved_model_finds_the_same_with_the_same_scores(
    fitted: Jasper, word_encoder: Encoder, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    for place in (tmp_path, tmp_path / "model", str(tmp_path)):
        loaded = Jasper.load(place, encoder=word_encoder)
        assert loaded.record is None
        for ranker in RANKERS:
            assert loaded.search(QUESTION, 20, ranker) == fitted.search(QUESTION, 20, ranker)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(
    fitted: Jasper, synonym_set: RetrievalSet, quick_config: JasperConfig, word_encoder: Encoder, tmp_path: Path
) -> None:
    again = Jasper.fit(synonym_set, encoder=word_encoder, config=quick_config, store=EmbeddingStore(tmp_path))
    assert again.search(QUESTION, 20) == fitted.search(QUESTION, 20)
    for name, tensor in again.model.predictor.state_dict().items():
        assert tensor.equal(fitted.model.predictor.state_dict()[name])


def test_another_encoder_is_refused_by_name(fitted: Jasper, word_encoder: Encoder, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    other = type(word_encoder)(1)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="'words-0' and 'words-1' differ in weights") as caught:
        Jasper.load(tmp_path, encoder=other)
    assert "words-0" in caught.value.remedy
    with pytest.raises(InputError, match=r"words-0.*differ"):
        Jasper.load(tmp_path, encoder=lambda texts: np.ones((len(texts), 24)))


def test_the_encoder_is_resolved_when_first_needed(
    fitted: Jasper, word_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jasper_rag.embedding.sentence_encoder import SentenceEncoder

    asked: list[SentenceEncoderConfig] = []

    def resolve(config: SentenceEncoderConfig) -> Encoder:
        asked.append(config)
        return word_encoder

    monkeypatch.setattr(SentenceEncoder, "from_config", resolve)
    fitted.save(tmp_path)
    loaded = Jasper.load(tmp_path, offline=True)
    vectors = loaded.transform(fitted.model.vectors.vectors[:2])
    assert vectors.shape == (2, 24)
    assert asked == []
    assert loaded.search(QUESTION, 3) == fitted.search(QUESTION, 3)
    loaded.search(QUESTION)
    assert [(config.name, config.offline) for config in asked] == [(JasperConfig().encoder.name, True)]


@pytest.mark.slow
def test_the_own_test_split_is_measured_as_by_the_fit(
    fitted: Jasper, record: FitRecord, synonym_set: RetrievalSet
) -> None:
    qrels = {
        split: {query: synonym_set.qrels["all"][query] for query in queries.ids}
        for split, queries in record.embedded.splits.items()
    }
    divided = dataclasses.replace(synonym_set, qrels=qrels)
    own, fit = fitted.evaluate(divided).to_metrics(), record.comparison.to_metrics()
    assert set(fit["systems"]) - set(own["systems"]) == {"linear_adapter"}
    for key, figures in own["systems"].items():
        assert figures | {"train_seconds": 0} == fit["systems"][key] | {"train_seconds": 0}
    assert (own["dataset"], own["split"], own["verdict"]) == ("synonyms", "test", fit["verdict"])
    assert fitted.evaluate(divided, "dev").split == "dev"


@pytest.mark.slow
def test_another_set_is_searched_in_its_own_corpus(fitted: Jasper, synonym_set: RetrievalSet) -> None:
    documents = tuple(Document(f"other {d.id}", d.text) for d in synonym_set.documents[:40])
    queries = tuple(Query(f"other {q.id}", q.text) for q in synonym_set.queries[:40])
    qrels = {q.id: {d.id: 1} for q, d in zip(queries, documents, strict=True)}
    comparison = fitted.evaluate(RetrievalSet("other", documents, queries, {"validation": qrels}), "validation")
    assert (comparison.dataset, comparison.split, comparison.documents) == ("other", "validation", 40)
    assert comparison.runs["jasper"].rows.shape == (40, 40)
    jasper, plain = (comparison.runs[key].values["ndcg@10"].mean() for key in ("jasper", "plain"))
    assert jasper > plain + 0.3


@pytest.mark.slow
def test_a_corpus_unlike_the_one_trained_on_is_searched_plainly(fitted: Jasper, synonym_set: RetrievalSet) -> None:
    gate = fitted.model.corpus_gate
    assert gate is not None
    wary = dataclasses.replace(fitted.model, corpus_gate=dataclasses.replace(gate, typical=2.0))
    comparison = Jasper(wary, fitted.encoder).evaluate(synonym_set, "all")
    assert comparison.openness == 0.0
    runs = comparison.runs
    np.testing.assert_array_equal(runs["jasper"].rows, runs["plain"].rows)
    np.testing.assert_array_equal(runs["hybrid"].rows, runs["fusion"].rows)
    assert not np.array_equal(runs["jasper_ungated"].rows, runs["plain"].rows)


def test_foreign_documents_close_the_guard(fitted: Jasper, record: FitRecord) -> None:
    foreign = -fitted.model.vectors.vectors[:40]
    grown = Jasper(fitted.model, fitted.encoder)
    assert grown.model.openness == 1.0
    grown.add_vectors([Document(f"new{row}", "text") for row in range(40)], foreign)
    assert grown.model.openness == 1.0
    grown.remove([document.id for document in fitted.model.documents])
    assert grown.model.openness == 0.0
    questions = record.embedded.splits["test"].vectors
    np.testing.assert_array_equal(grown.transform(questions), questions)
    np.testing.assert_array_equal(grown.transform(questions, gated=False), fitted.transform(questions, gated=False))


def test_evaluation_names_the_splits_there_are(fitted: Jasper, synonym_set: RetrievalSet) -> None:
    with pytest.raises(InputError, match="synonyms has no split 'test'") as caught:
        fitted.evaluate(synonym_set)
    assert caught.value.remedy == "Choose one of these: all."
    with pytest.raises(InputError, match="has no split 'dev'") as caught:
        fitted.evaluate(dataclasses.replace(synonym_set, qrels={}), "dev")
    assert "judged questions" in caught.value.remedy


def test_a_split_without_an_answer_is_not_evaluated(fitted: Jasper, synonym_set: RetrievalSet) -> None:
    unanswered = dataclasses.replace(synonym_set, qrels={"test": {"q0": {"d0": 0}}})
    with pytest.raises(InputError, match=r"no question of synonyms, split 'test', has a relevant document"):
        fitted.evaluate(unanswered)


def test_the_package_offers_the_public_names() -> None:
    assert jasper_rag.Jasper is Jasper
    assert set(dir(jasper_rag)) == set(jasper_rag.__all__)
    for name in jasper_rag.__all__:
        assert getattr(jasper_rag, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Jaspers'"):
        _ = jasper_rag.Jaspers
