from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jasper_rag import batch_search
from jasper_rag.batch_search import search_file
from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper, Ranker
from jasper_rag.retrieval.trec import read_run
from jasper_rag.text.records import RetrievalSet


@pytest.fixture
def questions(tmp_path: Path, synonym_set: RetrievalSet) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"_id": q.id, "text": q.text}) + "\n" for q in synonym_set.queries[:25]))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("ranker", ["hybrid", "dense", "plain"])
def test_the_run_is_that_of_single_searches(
    fitted: Jasper,
    synonym_set: RetrievalSet,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ranker: Ranker,
) -> None:
    monkeypatch.setattr(batch_search, "BATCH", 7)  # several batches, the last one short
    done = search_file(fitted, questions, tmp_path / "run.trec", 4, ranker)
    run = read_run(tmp_path / "run.trec")
    assert done.questions == len(run) == 25
    for query in synonym_set.queries[:25]:
        hits = fitted.search(query.text, 4, ranker)
        assert list(run[query.id]) == [hit.document.id for hit in hits]
        np.testing.assert_allclose(list(run[query.id].values()), [hit.score for hit in hits], rtol=1e-4, atol=1e-5)


def test_the_monitor_counts_what_the_gate_closes(fitted: Jasper, questions: Path, tmp_path: Path) -> None:
    done = search_file(fitted, questions, tmp_path / "run.trec", 1)
    gate = fitted.model.guard.gate
    assert gate is not None
    assert done.monitor is not None
    texts = [json.loads(line)["text"] for line in questions.read_text().splitlines()]
    openness = gate.openness(fitted.encoder.encode(texts, "query"))
    assert done.monitor.questions == 25
    assert done.monitor.outside == pytest.approx(float((openness <= 0).mean()))


def test_a_bad_question_leaves_the_old_run(fitted: Jasper, questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.trec"
    output.write_text("an older run\n")
    with questions.open("a") as stream:
        stream.write("not json\n")
    with pytest.raises(InputError, match=r"questions\.jsonl:26"):
        search_file(fitted, questions, output, 3)
    assert output.read_text() == "an older run\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["questions.jsonl", "run.trec"]


@pytest.mark.slow
def test_a_batch_can_be_steered(fitted: Jasper, synonym_set: RetrievalSet, questions: Path, tmp_path: Path) -> None:
    search_file(fitted, questions, tmp_path / "run.trec", 4, steer="#2")
    run = read_run(tmp_path / "run.trec")
    for query in synonym_set.queries[:25]:
        assert list(run[query.id]) == [hit.document.id for hit in fitted.search(query.text, 4, steer="#2")]
    with pytest.raises(InputError, match="no topic '#99'"):
        search_file(fitted, questions, tmp_path / "other.trec", 4, steer="#99")
    assert not (tmp_path / "other.trec").exists()
