from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.retrieval.trec import read_run

Command = Callable[..., Any]


def test_without_data_it_shows_what_the_fit_measured(
    jasper: Command, fitting: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, fit = fitting
    outcome = jasper("evaluate", "--run", run)
    assert (outcome.code, outcome.out, outcome.err) == (0, fit.out, "")
    as_json = jasper("evaluate", "--run", run, "--json")
    assert json.loads(as_json.out) == json.loads((run / "metrics.json").read_text())


def test_the_own_set_is_divided_as_by_the_fit(jasper: Command, run: Path, data: Path) -> None:
    outcome = jasper("evaluate", "--run", run, "--data", data, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    again, first = json.loads(outcome.out), json.loads((run / "metrics.json").read_text())
    assert set(first["systems"]) - set(again["systems"]) == {"linear_adapter"}
    for key, figures in again["systems"].items():
        assert figures | {"train_seconds": 0} == first["systems"][key] | {"train_seconds": 0}
    assert again["verdict"] == first["verdict"]
    dev = json.loads(jasper("evaluate", "--run", run, "--data", data, "--json", "--split", "dev").out)
    assert (dev["split"], dev["questions"]) == ("dev", 16)
    assert dev["systems"]["plain"] != again["systems"]["plain"]


@pytest.mark.slow
def test_another_set_with_its_own_splits(jasper: Command, run: Path, damaged: Path, tmp_path: Path) -> None:
    (damaged / "qrels" / "all.tsv").rename(damaged / "qrels" / "test.tsv")
    target = tmp_path / "results"
    outcome = jasper("evaluate", "--run", run, "--data", damaged, "--output-dir", target)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[0].rstrip() == "damaged, test split: 160 questions"
    metrics = json.loads((target / "metrics.json").read_text())
    assert metrics["questions"] == 160
    assert sorted(path.name for path in (target / "runs").iterdir()) == sorted(
        f"test.{system}.trec" for system in metrics["systems"]
    )
    assert len(read_run(target / "runs" / "test.jasper.trec")) == 160
    assert sorted(path.name for path in target.iterdir()) == ["metrics.json", "runs"]


@pytest.mark.slow
def test_questions_without_an_answer_are_left_out(jasper: Command, run: Path, damaged: Path, tmp_path: Path) -> None:
    rows = ["query-id\tcorpus-id\tscore", "q3\td3\t1", "q4\td4\t0", "q5\td5\t2"]
    (damaged / "qrels" / "all.tsv").unlink()
    (damaged / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    outcome = jasper("evaluate", "--run", run, "--data", damaged, "--output-dir", tmp_path / "r", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["questions"] == 2
    assert list(read_run(tmp_path / "r" / "runs" / "test.hybrid.trec")) == ["q3", "q5"]


@pytest.mark.slow
def test_a_missing_split_is_answered_with_those_there_are(jasper: Command, run: Path, damaged: Path) -> None:
    (damaged / "qrels" / "all.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td3\t1\n")
    outcome = jasper("evaluate", "--run", run, "--data", damaged)
    assert (outcome.code, outcome.out) == (2, "")
    assert "[split]: damaged has no split 'test'" in outcome.err
    assert "Choose one of these: all." in outcome.err
    asked = jasper("evaluate", "--run", run, "--data", damaged, "--split", "all", "--json")
    assert json.loads(asked.out)["questions"] == 1


@pytest.mark.slow
def test_a_split_that_the_fit_did_not_measure(jasper: Command, run: Path) -> None:
    outcome = jasper("evaluate", "--run", run, "--split", "dev")
    assert (outcome.code, outcome.out) == (2, "")
    assert "metrics.json [split]: the run measured the split 'test', not 'dev'" in outcome.err
    assert "--data DIR" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "lacks dataset, questions, split, systems, verdict"),
        ('{"dataset": "x", "questions": 3, "split": "test", "systems": {}}', "lacks verdict"),
        (
            '{"dataset": "x", "questions": 3, "split": "test", "systems": {}, "verdict": ""}',
            "the metrics have no systems",
        ),
    ],
)
def test_damaged_metrics(jasper: Command, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    outcome = jasper("evaluate", "--run", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_bad_places(jasper: Command, run: Path, data: Path, tmp_path: Path) -> None:
    nowhere = jasper("evaluate", "--run", tmp_path / "nowhere")
    assert nowhere.code == 2
    assert "there is no such run" in nowhere.err
    unfinished = jasper("evaluate", "--run", tmp_path)
    assert unfinished.code == 2
    assert "this run has no metrics of its own" in unfinished.err
    no_model = jasper("evaluate", "--run", tmp_path, "--data", data)
    assert no_model.code == 2
    assert "there is no trained model here" in no_model.err
    no_data = jasper("evaluate", "--run", run, "--data", tmp_path / "nowhere")
    assert no_data.code == 2
    assert "nothing exists at this path" in no_data.err
    aimless = jasper("evaluate", "--run", run, "--output-dir", tmp_path / "out")
    assert aimless.code == 2
    assert "--output-dir without --data" in aimless.err
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "splits.json").unlink()
    undivided = jasper("evaluate", "--run", copy, "--data", data)
    assert undivided.code == 2
    assert "has no split 'test'" in undivided.err
