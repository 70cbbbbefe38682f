from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.encoder_choice import GIVEN_VECTORS
from jasper_rag.jasper import FitRecord, Jasper
from jasper_rag.jasper_config import load_config
from jasper_rag.run_directory import write_fit
from jasper_rag.run_report import example, facts, next_commands, run_report
from jasper_rag.text.leakage import Leak, LeakReport
from jasper_rag.text.records import RetrievalSet


@pytest.fixture(scope="module")
def record(fitted: Jasper) -> FitRecord:
    assert fitted.record is not None
    return fitted.record


def test_an_example_is_one_question_before_and_after(record: FitRecord) -> None:
    comparison, documents = record.comparison, record.embedded.documents
    queries = record.embedded.splits[comparison.split]
    for row in (0, 7):
        shown = example(comparison, record, row)
        assert shown.question == queries.texts[row]
        relevant = queries.judgements.positives(row).tolist()
        for hits, system in ((shown.before, "plain"), (shown.after, comparison.default)):
            run = comparison.runs[system]
            assert [hit.document_id for hit in hits] == [documents[each].id for each in run.rows[row, :10]]
            assert [hit.score for hit in hits] == run.scores[row, :10].tolist()
            assert [hit.relevant for hit in hits] == [each in relevant for each in run.rows[row, :10]]
            assert all(
                (hit.title, hit.text) == (found.title, found.text)
                for hit, found in zip(hits, (documents[each] for each in run.rows[row]), strict=False)
            )


@pytest.mark.slow
def test_the_report_routes_the_questions_it_shows(fitted: Jasper, record: FitRecord, tmp_path: Path) -> None:
    found = run_report(fitted, record, record.to_metrics(), tmp_path)
    view = found.routing
    assert view is not None
    assert fitted.model.topics is not None
    assert sorted(each.text for each in view.questions) == sorted(each.question for each in found.examples)
    assert len(found.examples) == len({each.question for each in found.examples}) == 16
    assert (view.asked, view.names) == (16, fitted.model.topics.names)
    assert record.steering is not None
    # The diagonal: questions whose first topic is the right one.
    assert np.trace(view.confusion) / 16 == pytest.approx(record.steering.accuracy_at_1)
    assert view.confusion.sum() == 16
    for question in view.questions:
        offered = [(topic.number - 1, weight) for topic, weight in fitted.offered_topics(question.text)]
        for (topic, share), (expected, weight) in zip(question.routes, offered, strict=False):
            assert topic == expected
            assert share == pytest.approx(weight, abs=1e-5)
    titles = {document.title for document in fitted.model.documents}
    assert set(view.labels) <= titles


def test_a_run_without_topics_has_no_map(fitted: Jasper, record: FitRecord, tmp_path: Path) -> None:
    bare = Jasper(dataclasses.replace(fitted.model, topics=None), fitted.encoder)
    assert run_report(bare, record, record.to_metrics(), tmp_path).routing is None


@pytest.mark.slow
def test_shared_titles_are_told_apart_by_the_text(fitted: Jasper, record: FitRecord, tmp_path: Path) -> None:
    documents = tuple(
        dataclasses.replace(document, title="" if row % 2 else "Note")
        for row, document in enumerate(fitted.model.documents)
    )
    embedded = dataclasses.replace(record.embedded, documents=documents)
    view = run_report(fitted, dataclasses.replace(record, embedded=embedded), record.to_metrics(), tmp_path).routing
    assert view is not None
    texts = {" ".join(document.content.split()) for document in documents}
    assert {" ".join(label.split()) for label in view.labels} <= texts
    assert "Note" not in view.labels


def test_facts_tell_what_was_decided(fitted: Jasper, record: FitRecord) -> None:
    found = facts(fitted, record)
    assert found["Encoder"] == "words-0, 24 dimensions"
    assert found["Documents"] == "160"
    assert found["Questions"] == "128 train, 16 dev, 16 test"
    assert found["Leaks between splits"] == "none found"
    assert "fully open for" in found["Familiarity gate"]
    assert not any("longer" in name for name in found)
    leak, none = Leak(1_200, 2_000, ("x",)), Leak(0, 9, ())
    leaks = LeakReport("s", ("train", "test"), equal_queries=leak, shared_sources=none, verbatim_queries=leak)
    found = facts(fitted, dataclasses.replace(record, truncated_share=0.256, leaks=leaks))
    assert found["Documents longer than the encoder reads"] == "25.6%"
    assert found["Leaks between splits"] == (
        "1,200 questions in several splits; 1,200 questions quoted in their own answers"
    )


@pytest.mark.slow
def test_a_fit_without_a_gate_says_so(synonym_set: RetrievalSet, word_encoder: Encoder) -> None:
    config = load_config(overrides={"guard.gate": False, "training.steps": 2})
    jasper = Jasper.fit(synonym_set, encoder=word_encoder, config=config)
    assert jasper.record is not None
    assert facts(jasper, jasper.record)["Familiarity gate"] == "off"


@pytest.mark.slow
def test_a_report_of_many_questions_shows_gains_losses_and_a_sample(
    synonym_set: RetrievalSet, word_encoder: Encoder, tmp_path: Path
) -> None:
    ids = list(synonym_set.qrels["all"])
    parts = {"train": ids[:80], "dev": ids[80:100], "test": ids[100:]}
    qrels = {split: {query: synonym_set.qrels["all"][query] for query in part} for split, part in parts.items()}
    divided = dataclasses.replace(synonym_set, qrels=qrels)
    jasper = Jasper.fit(divided, encoder=word_encoder, config=load_config(overrides={"training.steps": 2}))
    assert jasper.record is not None
    write_fit(jasper, jasper.record, tmp_path)
    report = (tmp_path / "report.html").read_text()
    texts = {query.id: query.text for query in synonym_set.queries}
    assert 26 <= sum(texts[query] in report for query in parts["test"]) <= 40


def test_next_commands_name_the_run() -> None:
    assert any("--encoder YOURS" in command for command in next_commands(Path("runs/x"), GIVEN_VECTORS))
    assert all("--run runs/x " in command for command in next_commands(Path("runs/x")))
    assert all("--run 'my runs/x' " in command for command in next_commands(Path("my runs/x")))
