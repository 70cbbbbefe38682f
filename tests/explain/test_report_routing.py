from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from xml.etree import ElementTree

import numpy as np
import pytest

from jasper_rag.explain.report import render_report
from jasper_rag.explain.report_confusion import confusion_section
from jasper_rag.explain.report_data import ReportData
from jasper_rag.explain.report_routing import GRAIN, embedded_json, topic_map_section
from jasper_rag.explain.report_training import training
from jasper_rag.explain.routing_view import RoutingView
from jasper_rag.explain.topic_plot import WIDTH, on_plot

EVIL = "</script><script>alert(1)</script>&\"'\ud800"


def held(page: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(re.findall(r'id="map-data">(.*?)</script>', page, re.DOTALL)[0])
    return found


def test_the_page_holds_every_source_at_its_place(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    sources = held(topic_map_section(view))["sources"]
    assert isinstance(sources, dict)
    assert sources["label"] == list(view.labels)
    assert sources["topic"] == view.topics.tolist()
    places = np.stack([sources["x"], sources["y"]], axis=1) / GRAIN
    np.testing.assert_allclose(places, on_plot(view.layout, view.layout.points), atol=0.5 / GRAIN + 1e-9)
    assert 0 <= places[:, 0].min() <= places[:, 0].max() <= WIDTH


def test_every_question_can_be_chosen_and_says_where_it_went(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    page = topic_map_section(view)
    assert page.count("data-question=") == len(view.questions) == 12
    questions = held(page)["questions"]
    assert isinstance(questions, list)
    for question, shown in zip(view.questions, questions, strict=True):
        assert shown["hits"] == list(question.hits)
        assert shown["routes"][0][0] == question.routed
        mark = "✓" if question.right == question.routed else "✗"
        assert f"{question.text} <small><b>{mark}</b> {view.names[question.routed]}" in page


def test_a_question_without_a_known_answer_has_no_mark(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    unknown = replace(view, questions=(replace(view.questions[0], right=-1),))
    page = topic_map_section(unknown)
    assert f"<small>{view.names[view.questions[0].routed]}</small>" in page


def test_texts_cannot_leave_the_data(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    question = replace(view.questions[0], text=EVIL)
    evil = replace(view, names=(EVIL,) * len(view.names), labels=(EVIL,) * len(view.labels), questions=(question,))
    page = render_report(replace(routing_report, routing=evil, examples=()))
    assert len(re.findall(r"<script[ >]", page)) == len(re.findall(r"</script>", page)) == 2
    page.encode("utf-8")
    sources = held(page)["sources"]
    assert isinstance(sources, dict)
    assert sources["label"][0] == EVIL.replace("\ud800", "?")


def test_embedded_json_has_no_markup() -> None:
    text = embedded_json({"a": "<!--<script>&"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "<!--<script>&"}


def test_the_scripts_find_all_they_name(routing_report: ReportData) -> None:
    page = render_report(routing_report)
    script = resources.files("jasper_rag.explain").joinpath("report_map.js").read_text(encoding="utf-8")
    named = set(re.findall(r'byId\("([\w-]+)"\)', script)) | set(re.findall(r'"(map-[\w-]+)"', script))
    ids = re.findall(r' id="([\w-]+)"', page)
    assert named <= set(ids)
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:aria-\w+by|for)="([^"]+)"', page)
    assert {name for names in referred for name in names.split()} <= set(ids)
    assert " style=" not in page


@pytest.mark.slow
def test_the_same_data_give_the_same_page(routing_report: ReportData, make_view: Callable[..., RoutingView]) -> None:
    assert render_report(routing_report) == render_report(replace(routing_report, routing=make_view()))


def test_a_report_without_routing_has_neither_section_nor_script(routing_report: ReportData) -> None:
    page = render_report(replace(routing_report, routing=None))
    assert "map-data" not in page
    assert 'href="#map"' not in page
    assert "explorer" not in page


def test_a_view_without_questions_is_a_map_alone(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    empty = replace(view, questions=(), confusion=np.zeros_like(view.confusion), sizes=(100,) * len(view.names))
    page = topic_map_section(empty)
    assert 'id="map-picker"' not in page
    assert "120 of 600 are drawn." in page
    assert confusion_section(empty) == ""


def test_the_heat_map_and_the_table_count_alike(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    page = confusion_section(view)
    (drawn,) = re.findall(r"<svg class=\"heat\".*?</svg>", page, re.DOTALL)
    counts = [int(text.rpartition(": ")[2].split()[0]) for text in re.findall(r"<title>(.*?)</title>", drawn)]
    assert sum(counts) == view.confusion.sum() == 40
    assert drawn.count('class="hit"') == np.count_nonzero(view.confusion.diagonal())
    ElementTree.fromstring(drawn)
    off = view.confusion - np.diag(view.confusion.diagonal())
    (table,) = re.findall(r'<table class="confusions">.*?</table>', page, re.DOTALL)
    listed = [int(number) for number in re.findall(r'<td class="number">(\d+)</td>', table)]
    assert listed == sorted(off[off > 0].tolist(), reverse=True)[:12]
    assert f"<b>{view.confusion.trace() / 40:.0%}</b> of 40 questions" in page


@pytest.mark.slow
def test_many_topics_make_a_heat_map_without_names(
    routing_report: ReportData, make_view: Callable[..., RoutingView]
) -> None:
    page = confusion_section(make_view(sources=200, count=64, asked=200))
    (drawn,) = re.findall(r"<svg class=\"heat\".*?</svg>", page, re.DOTALL)
    assert "<text" not in drawn
    assert drawn.count("<rect") > 64


def test_a_routing_without_faults_says_so(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    perfect = np.diag([9] + [0] * (len(view.names) - 1))
    page = confusion_section(replace(view, confusion=perfect))
    assert "No question was routed to another topic" in page
    assert "31 more have no answer in the corpus" in page


def test_long_names_keep_whole_terms(routing_report: ReportData) -> None:
    view = routing_report.routing
    assert view is not None
    names = ("antidisestablishmentarianism" * 3, *(f"first{n}, second, third, fourth, fifth, sixth" for n in range(5)))
    page = confusion_section(replace(view, names=names))
    assert ">first0, second, third</text>" in page
    assert re.search(r">antidisestablish\w*…</text>", page)


def test_steering_and_routing_have_curves(routing_report: ReportData) -> None:
    page = training(routing_report)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions == [
        "nDCG@10 on the dev questions",
        "Training loss",
        "nDCG@10 steered to the topic of the answer",
        "nDCG@10 steered: mine",
        "Routing accuracy on the dev questions",
        "Entropy of the routing, in nats",
    ]


@pytest.mark.slow
def test_twenty_thousand_sources_stay_below_five_megabytes(
    routing_report: ReportData, make_view: Callable[..., RoutingView]
) -> None:
    view = make_view(sources=20_000, count=64, asked=400, shown=200)
    wide = replace(view, labels=("文書の本文" * 6,) * len(view.labels))
    for drawn in (view, wide):
        assert len(render_report(replace(routing_report, routing=drawn)).encode()) < 5_000_000
