"""`jasper explain`: one question on the screen, as JSON and as a picture; a file of questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.jasper import Jasper

Command = Callable[..., Any]

QUESTION = "automobile or physician or road?"


def test_an_explanation_is_readable_at_80_columns(jasper: Command, run: Path) -> None:
    outcome = jasper("explain", "--run", run, "-k", "3", QUESTION)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == QUESTION
    assert max(map(len, lines)) <= 80
    found = Jasper.load(run).explain(QUESTION, 3)
    heads = ("Topics", "Hits", "Without the topic", "Known questions like it", "What to do:")
    assert [head for head in heads if any(line.startswith(head) for line in lines)] == list(heads)
    assert f"#{found.topics[0].row + 1}" in outcome.out
    for hit in found.hits:
        assert f"{hit.rank:>3}  {hit.score:7.3f}  {hit.document.id} · {hit.document.title}" in lines
        assert f"words {hit.parts['words']:.2f}" in outcome.out
    assert found.similar_known_pairs[0].question in outcome.out
    assert " ".join(outcome.out.split()).endswith(found.actionable_signal)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        ([], {}),
        (["--dense-only"], {"ranker": "dense"}),
        (["--steer", "#2"], {"steer": "#2"}),
        (["--steer", "text:road", "--strength", "0.5", "--dense-only"], {"steer": "text:road", "strength": 0.5}),
    ],
)
def test_json_is_the_explanation(jasper: Command, run: Path, arguments: list[str], way: dict[str, Any]) -> None:
    outcome = jasper("explain", "--run", run, "-k", "4", "--json", *arguments, QUESTION)
    ranker = {"ranker": "dense"} if "--dense-only" in arguments else {}
    found = Jasper.load(run).explain(QUESTION, 4, **(way | ranker))
    assert json.loads(outcome.out) == found.to_dict()
    shown = jasper("explain", "--run", run, "-k", "4", *arguments, QUESTION)
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 80
    assert ("chosen" in shown.out) == ("#2" in arguments)
    assert ("Steered past the guard" in shown.out) == (found.steering_shift > 0)


@pytest.mark.slow
def test_a_picture_is_drawn(jasper: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "why.png"
    outcome = jasper("explain", "--run", run, "--figure", path, QUESTION)
    assert outcome.code == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert str(path) in outcome.err
    assert jasper("explain", "--run", run, "--figure", path, "--quiet", QUESTION).err == ""


def test_a_file_of_questions(jasper: Command, run: Path, tmp_path: Path) -> None:
    questions, output = tmp_path / "questions.jsonl", tmp_path / "out" / "explanations.jsonl"
    asked = {f"q{row}": text for row, text in enumerate([QUESTION, "movie or rock?"] * 35)}
    questions.write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in asked.items()), encoding="utf-8")
    outcome = jasper("explain", "--run", run, "--input", questions, "--output", output, "-k", "2")
    assert (outcome.code, outcome.out) == (0, "")
    assert "70 questions explained" in outcome.err
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(line["id"], line["question"]) for line in lines] == list(asked.items())
    alone = Jasper.load(run).explain(QUESTION, 2).to_dict()
    assert lines[0]["hits"][0]["id"] == alone["hits"][0]["id"]
    assert set(lines[0]) == {"id", *alone}


@pytest.mark.slow
def test_a_fault_leaves_no_half_file(jasper: Command, run: Path, tmp_path: Path) -> None:
    questions, output = tmp_path / "questions.jsonl", tmp_path / "explanations.jsonl"
    questions.write_text('{"_id": "a", "text": "car"}\n' * 65, encoding="utf-8")
    outcome = jasper("explain", "--run", run, "--input", questions, "--output", output)
    assert outcome.code == 2
    assert list(tmp_path.iterdir()) == [questions]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one question, or --input with --output, is expected"),
        ([QUESTION, "--input", "q.txt"], "one question, or --input with --output, is expected"),
        (["--input", "q.txt"], "one question, or --input with --output, is expected"),
        (["--input", "q.txt", "--output", "o.jsonl", "--figure", "a.png"], "--figure is for one question"),
        (["--input", "q.txt", "--output", "."], "is a folder, not a file"),
        ([QUESTION, "--figure", "a.bmp"], ".png, .svg, .pdf, .jpg"),
        ([QUESTION, "--steer", "#99"], "there is no topic '#99'"),
        ([" "], "the question is empty"),
        ([QUESTION, "-k", "0"], "greater than or equal to 1"),
    ],
)
def test_bad_input(jasper: Command, run: Path, arguments: list[str], message: str) -> None:
    outcome = jasper("explain", "--run", run, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


@pytest.mark.slow
def test_a_model_without_topics_is_explained_but_not_drawn(jasper: Command, run: Path, tmp_path: Path) -> None:
    import dataclasses

    from jasper_rag.serving.saved_model import model_folder, read_model, write_model

    bare = dataclasses.replace(read_model(model_folder(run)), topics=None, known_pairs=None)
    write_model(bare, tmp_path / "bare")
    outcome = jasper("explain", "--run", tmp_path / "bare", QUESTION)
    assert outcome.code == 0
    assert "no topics" in outcome.out
    assert "Known questions" not in outcome.out
    assert jasper("explain", "--run", tmp_path / "bare", "--figure", tmp_path / "a.png", QUESTION).code == 2
