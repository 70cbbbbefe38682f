"""`jasper search` with topics: listed, offered, and followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.jasper import Jasper
from jasper_rag.retrieval.trec import read_run

Command = Callable[..., Any]

QUESTION = "automobile or physician or road?"


@pytest.mark.slow
def test_topics_are_listed_without_a_question(jasper: Command, run: Path) -> None:
    outcome = jasper("search", "--run", run, "--topics")
    assert (outcome.code, outcome.err) == (0, "")
    topics = Jasper.load(run).topics
    lines = [line for line in outcome.out.splitlines() if line]
    assert lines == [f"{f'#{t.number}':>4}  {t.name}  ({t.documents})" for t in topics]
    listed = json.loads(jasper("search", "--run", run, "--topics", "--json").out)["topics"]
    assert listed == [
        {"number": t.number, "name": t.name, "terms": list(t.terms), "documents": t.documents} for t in topics
    ]


@pytest.mark.slow
def test_three_topics_are_offered_before_the_hits(jasper: Command, run: Path) -> None:
    outcome = jasper("search", "--run", run, "--topics", QUESTION)
    assert (outcome.code, outcome.err) == (0, "")
    model = Jasper.load(run)
    offered = model.offered_topics(QUESTION)
    lines = outcome.out.splitlines()
    for (topic, weight), line in zip(offered, lines[:3], strict=True):
        assert line.split()[:2] == [f"#{topic.number}", f"{weight:.1%}"]
        assert topic.name in line
    assert "\n".join(lines[4:]) + "\n" == jasper("search", "--run", run, QUESTION).out
    answer = json.loads(jasper("search", "--run", run, "--topics", QUESTION, "--json").out)
    assert [(topic["number"], topic["weight"]) for topic in answer["topics"]] == [
        (topic.number, pytest.approx(weight)) for topic, weight in offered
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["#{number}", "topic:#{number}", "topic:{name}"])
def test_a_search_follows_a_topic(jasper: Command, run: Path, form: str) -> None:
    model = Jasper.load(run)
    topic = model.topics[5]
    steer = form.format(number=topic.number, name=topic.name)
    answer = json.loads(jasper("search", "--run", run, "--steer", steer, QUESTION, "--json").out)
    assert answer["steer"] == steer
    assert [hit["id"] for hit in answer["hits"]] == [hit.document.id for hit in model.search(QUESTION, steer="#6")]


@pytest.mark.slow
def test_several_places_and_a_strength(jasper: Command, run: Path) -> None:
    model = Jasper.load(run)
    document = model.model.documents[3].id
    places = ["keywords:road, street", f"document:{document}", "text:about stone, not road"]
    given = [part for place in places for part in ("--steer", place)]
    answer = json.loads(jasper("search", "--run", run, *given, "--strength", "0.5", QUESTION, "--json").out)
    assert (answer["steer"], answer["strength"]) == (places, 0.5)
    expected = model.search(QUESTION, steer=places, strength=0.5)
    assert [(hit["id"], hit["score"]) for hit in answer["hits"]] == [(hit.document.id, hit.score) for hit in expected]


@pytest.mark.slow
def test_no_strength_is_no_steering(jasper: Command, run: Path) -> None:
    plain = jasper("search", "--run", run, QUESTION)
    assert jasper("search", "--run", run, "--steer", "#6", "--strength", "0", QUESTION).out == plain.out
    assert "steer" not in json.loads(jasper("search", "--run", run, QUESTION, "--json").out)


@pytest.mark.slow
def test_a_file_of_questions_follows_a_topic(jasper: Command, run: Path, tmp_path: Path) -> None:
    questions, output = tmp_path / "questions.txt", tmp_path / "run.trec"
    questions.write_text(f"{QUESTION}\n", encoding="utf-8")
    given = ("search", "--run", run, "--input", questions, "--output", output)
    assert jasper(*given, "--steer", "text:road").code == 0
    expected = Jasper.load(run).search(QUESTION, steer="text:road")
    (found,) = read_run(output).values()
    assert list(found) == [hit.document.id for hit in expected]
    assert jasper(*given, "--steer", "text:road", "--strength", "0").code == 0
    (found,) = read_run(output).values()
    assert list(found) == [hit.document.id for hit in Jasper.load(run).search(QUESTION)]
    assert jasper(*given, "--steer", "#6").code == 0
    (found,) = read_run(output).values()
    assert list(found) == [hit.document.id for hit in Jasper.load(run).search(QUESTION, steer="#6")]
    refused = jasper(*given, "--topics")
    assert refused.code == 2
    assert "--topics is for one question" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steer", "#99"], "[steer]: there is no topic '#99'"),
        (["--steer", "topic:qqq"], "The nearest are #"),
        (["--steer", "road"], "Write topic:NAME"),
        (["--steer", "document:qqq"], "The nearest ids are"),
        (["--steer", "#1", "--strength", "9"], "[strength]: a strength of 9"),
        (["--steer", "#1", "--strength", "nan"], "[strength]: a strength of nan"),
        (["--strength", "0.5"], "nothing to steer to"),
        (["--steer", "#1", "--plain"], "--plain and --steer exclude each other"),
    ],
)
def test_bad_steering(jasper: Command, run: Path, arguments: list[str], message: str) -> None:
    outcome = jasper("search", "--run", run, QUESTION, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_a_fit_prints_what_a_topic_is_worth(fitting: tuple[Path, Any]) -> None:
    run, outcome = fitting
    modes = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["steering_modes"]
    table = outcome.out[outcome.out.index("asked with one of 13 topics") :]
    first, three = (
        tuple(f"{modes[f'{who}_accuracy@{k}']:.0%}" for who in ("router", "nearest_centroid")) for k in (1, 3)
    )
    assert f"is right for {first[0]} (nearest centroid: {first[1]}), one of three for {three[0]} ({three[1]})" in table
    assert "upper bound: knows the answer" in table
    for mode, name in STEERING_NAMES.items():
        (row,) = [line for line in table.splitlines() if line.strip().startswith(f"{name} ")]
        figures, alone = modes["search"][mode], modes["modes"][mode]
        shown = [figures["ndcg@10"], figures["recall@10"], figures["mrr@10"], alone["ndcg@10"]]
        assert row.split()[-4:] == [f"{value:.3f}" for value in shown]
    assert "Topics: 13 (spherical k-means, seed 0)" in outcome.err
    assert "Asked with a topic" in (run / "report.html").read_text(encoding="utf-8")
