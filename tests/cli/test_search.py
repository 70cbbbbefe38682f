from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.jasper import Jasper

Command = Callable[..., Any]

QUESTION = "automobile or physician or road?"


def test_hits_for_people(jasper: Command, run: Path) -> None:
    outcome = jasper("search", "--run", run, QUESTION, "-k", "3")
    assert (outcome.code, outcome.err) == (0, "")
    hits = Jasper.load(run).search(QUESTION, 3)
    lines = outcome.out.splitlines()
    assert len(lines) == 9  # a heading, a text and a blank line each
    for hit, heading, text in zip(hits, lines[::3], lines[1::3], strict=True):
        assert heading.split() == [str(hit.rank), f"{hit.score:.3f}", hit.document.id, *hit.document.title.split()]
        assert text == hit.document.text


@pytest.mark.parametrize(
    ("flags", "ranker"),
    [([], "hybrid"), (["--dense-only"], "dense"), (["--dense_only"], "dense"), (["--plain"], "plain")],
)
def test_hits_for_programs(jasper: Command, run: Path, flags: list[str], ranker: Any) -> None:
    outcome = jasper("search", QUESTION, "--run", run, "--json", *flags)
    assert (outcome.code, outcome.err) == (0, "")
    answer = json.loads(outcome.out)
    assert (answer["question"], answer["ranker"]) == (QUESTION, ranker)
    expected = Jasper.load(run).search(QUESTION, 10, ranker)
    assert [(hit["rank"], hit["id"]) for hit in answer["hits"]] == [(hit.rank, hit.document.id) for hit in expected]
    assert [hit["score"] for hit in answer["hits"]] == [hit.score for hit in expected]
    assert [(hit["title"], hit["text"]) for hit in answer["hits"]] == [
        (hit.document.title, hit.document.text) for hit in expected
    ]


@pytest.mark.slow
def test_the_rankers_differ(jasper: Command, run: Path) -> None:
    outcomes = {jasper("search", QUESTION, "--run", run, *flags).out for flags in ([], ["--dense-only"], ["--plain"])}
    assert len(outcomes) == 3


@pytest.mark.slow
def test_the_model_folder_is_as_good_as_the_run(jasper: Command, run: Path) -> None:
    assert jasper("search", QUESTION, "--run", run / "model").out == jasper("search", QUESTION, "--run", run).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "--run", "RUN"], "[question]: the question is empty"),
        (["   ", "--run", "RUN"], "[question]: the question is empty"),
        (["q", "--run", "NOWHERE"], "there is no trained model here"),
        (["q", "--run", "RUN", "--plain", "--dense-only"], "--dense-only and --plain exclude each other"),
        (["q", "--run", "RUN", "-k", "0"], "Invalid value for '-k'"),
        (["q"], "Missing option '--run'"),
        (["--run", "RUN"], "[question]: one question, or --input with --output, is expected"),
    ],
)
def test_bad_questions(jasper: Command, run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    places = {"RUN": run, "NOWHERE": tmp_path / "nowhere"}
    outcome = jasper("search", *(places.get(argument, argument) for argument in arguments))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_a_run_without_its_model(jasper: Command, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "model" / "gate.safetensors").unlink()
    outcome = jasper("search", QUESTION, "--run", copy)
    assert outcome.code == 2
    assert f"{copy}/model/gate.safetensors: the file is missing" in outcome.err
    shutil.rmtree(copy / "model")
    outcome = jasper("search", QUESTION, "--run", copy)
    assert outcome.code == 2
    assert f"jasper: {copy}: there is no trained model here (no jasper.json)" in outcome.err
    assert "`jasper fit --output-dir`" in outcome.err


@pytest.mark.slow
def test_a_model_that_has_changed_since_is_refused(jasper: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jasper_rag.embedding.model_source.weights_sha256", lambda folder: "0" * 64)
    outcome = jasper("search", QUESTION, "--run", run)
    assert outcome.code == 2
    assert "this encoder is not the one the vectors were made with: two versions of" in outcome.err
    assert "differ in weights (SHA-256)" in outcome.err
