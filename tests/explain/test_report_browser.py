"""The report in headless Chromium: a copy of the page with a script at its end that uses it and writes what it sees."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.explain.report import render_report
from jasper_rag.explain.report_data import ReportData

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", "--dump-dom"),
)
FAULT = re.compile(r":CONSOLE[:(].*|Uncaught.*|Refused to .*")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

Visit = Callable[..., dict[str, Any]]


@pytest.fixture
def visit(routing_report: ReportData, tmp_path: Path) -> Visit:
    """Open the report, run `script`, and return what it puts into `seen`; any line on the console is a fault."""

    def run(script: str, *flags: str) -> dict[str, Any]:
        assert CHROMIUM is not None
        page = tmp_path / "report.html"
        # Only this copy may run a script that its policy does not know.
        open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_report(routing_report))
        probe = f"""<script>
const seen = {{}};
const shown = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility()).length;
const text = (selector) => document.querySelector(selector).textContent;
const type = (selector, value) => {{
  const field = document.querySelector(selector);
  field.value = value;
  field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input", {{ bubbles: true }}));
}};
const press = (element, key) => element.dispatchEvent(
  new KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
{script}
const note = document.createElement("pre");
note.id = "seen";
note.textContent = JSON.stringify(seen);
document.body.append(note);
</script></body>"""
        page.write_text(open_page.replace("</body>", probe) if script else render_report(routing_report), "utf-8")
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert [line for line in done.stderr.splitlines() if FAULT.search(line)] == []
        if not script:
            return {"page": done.stdout}
        found: dict[str, Any] = json.loads(html.unescape(re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout)[0]))
        return found

    return run


def test_the_page_as_it_is_written_runs_under_its_own_policy(visit: Visit) -> None:
    page = visit("")["page"]
    assert re.search(r'<form class="picker"[^>]*aria-label="Questions on the map">', page)
    assert re.search(r'<form class="filter"[^>]*aria-label="Examples">', page)
    assert page.count('class="mark"') == 10


def test_a_fault_on_the_console_is_noticed(visit: Visit) -> None:
    with pytest.raises(AssertionError, match="boom"):
        visit('console.error("boom");')
    with pytest.raises(AssertionError, match="Uncaught"):
        visit("nothing.here();")


def test_a_search_filters_both_lists_of_questions(visit: Visit) -> None:
    seen = visit("""
seen.all = [shown("#map-questions li"), shown("details.example")];
type("#map-search", "NUMBER 11");
seen.one = [shown("#map-questions li"), shown("details.example")];
seen.count = [document.querySelector("#map-count").value, document.querySelector("#filter-count").value];
type("#filter-text", "thing 10?");
seen.back = [document.querySelector("#map-search").value, shown("#map-questions li")];
type("#map-search", "no such words");
seen.none = shown("#map-questions li");
""")
    assert seen["all"] == [12, 12]
    assert seen["one"] == [1, 1]
    assert seen["count"] == ["1 of 12 questions", "1 of 12 shown"]
    assert seen["back"] == ["thing 10?", 1]
    assert seen["none"] == 0


def test_a_topic_is_singled_out_from_legend_list_and_map(visit: Visit) -> None:
    seen = visit("""
const state = () => [
  shown("#map-questions li"), document.querySelector("#map-topic").value,
  [...document.querySelectorAll("#map-topics [aria-pressed=true]")].map((b) => b.textContent),
  document.querySelectorAll("#map-stage g.topic.single").length,
  getComputedStyle(document.querySelector("#map-stage g.topic:not(.single):not(.met)")).opacity < 0.2,
];
document.querySelector("#map-topics [data-topic='2'] button").click();
seen.legend = state();
document.querySelector("#map-topics [data-topic='2'] button").click();
seen.off = state();
type("#map-topic", "3");
seen.select = state();
document.querySelector("#map-stage g.topic[data-topic='1'] circle").dispatchEvent(
  new MouseEvent("click", { bubbles: true }));
seen.map = state();
""")
    assert seen["legend"][0] < 12
    assert seen["legend"][1:4] == ["2", ["topic2, words"], 1]
    assert seen["off"][:4] == [12, "", [], 0]
    assert seen["select"][1:4] == ["3", ["topic3, words"], 1]
    assert seen["map"][1:4] == ["1", ["topic1, words"], 1]


def test_a_question_draws_its_prediction_hits_and_routes(visit: Visit, routing_report: ReportData) -> None:
    seen = visit("""
document.querySelector("[data-question='5']").click();
seen.title = text("#map-chosen h3");
seen.pressed = [...document.querySelectorAll("[data-question][aria-pressed=true]")].map((b) => b.dataset.question);
seen.drawn = ["circle.asked", "path.predicted", "g.mark", "path.ray"].map(
  (kind) => document.querySelectorAll(`#map-drawn ${kind}`).length);
seen.hits = [...document.querySelectorAll(".ranking button")].map((b) => Number(b.dataset.source));
seen.routes = document.querySelectorAll(".routes li").length;
seen.right = [...document.querySelectorAll(".routes .tag")].map((tag) => tag.parentElement.textContent);
seen.width = document.querySelector(".routes .fill").style.width;
document.querySelectorAll(".ranking button")[3].focus();
seen.pointed = [text("#map-label"), document.querySelectorAll("#map-drawn .pointed-at").length];
document.querySelector("[data-question='5']").click();
seen.closed = [shown("#map-chosen"), document.querySelectorAll("#map-drawn *").length];
""")
    view = routing_report.routing
    assert view is not None
    question = view.questions[5]
    assert seen["title"] == question.text
    assert seen["pressed"] == ["5"]
    assert seen["drawn"] == [1, 1, 10, 10]
    assert seen["hits"] == list(question.hits)
    assert seen["routes"] == 5
    assert seen["right"] == [f"{view.names[question.right]} ✓ right topic"]
    assert float(seen["width"].rstrip("%")) == pytest.approx(100 * question.routes[0][1], abs=0.01)
    assert view.labels[question.hits[3]] in seen["pointed"][0]
    assert "hit 4" in seen["pointed"][0]
    assert seen["pointed"][1] == 1
    assert seen["closed"] == [0, 0]


def test_the_map_and_the_list_follow_the_keyboard(visit: Visit) -> None:
    seen = visit("""
const stage = document.querySelector("#map-stage");
stage.focus();
seen.labels = ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"].map((key) => {
  press(stage, key);
  return text("#map-label");
});
press(stage, "Escape");
seen.hidden = document.querySelector("#map-label").hidden;
const [first, second] = document.querySelectorAll("#map-questions button");
first.focus();
press(first, "ArrowDown");
seen.moved = document.activeElement === second;
seen.reached = [...document.querySelectorAll("button, input, select, [tabindex]")].every((e) => e.tabIndex === 0);
""")
    assert len(set(seen["labels"])) >= 4
    assert all("Source" in label for label in seen["labels"])
    assert seen["hidden"]
    assert seen["moved"]
    assert seen["reached"]


def test_pointing_at_a_dot_says_what_it_is(visit: Visit, routing_report: ReportData) -> None:
    seen = visit("""
const data = JSON.parse(text("#map-data"));
const plot = document.querySelector("#map-stage svg");
const box = plot.getBoundingClientRect();
const unit = box.width / plot.viewBox.baseVal.width;
document.querySelector("[data-question='0']").click();
plot.dispatchEvent(new PointerEvent("pointermove", {
  bubbles: true, clientX: box.left + data.sources.x[17] / data.grain * unit,
  clientY: box.top + data.sources.y[17] / data.grain * unit }));
seen.label = text("#map-label");
""")
    view = routing_report.routing
    assert view is not None
    assert seen["label"] == f"{view.labels[17]} {view.names[int(view.topics[17])]}"


@pytest.mark.parametrize("scheme", ["0", "1"])
def test_a_phone_needs_no_sideways_scrolling_in_either_scheme(visit: Visit, scheme: str) -> None:
    seen = visit(
        """
document.documentElement.style.maxWidth = "390px";
document.body.style.width = "390px";
seen.wide = [...document.querySelectorAll("main > section > *, .explorer > *, #map-questions li")].filter(
  (e) => e.checkVisibility() && e.getBoundingClientRect().right > 391).map((e) => e.className || e.tagName);
seen.paper = getComputedStyle(document.documentElement).backgroundColor;
""",
        f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=500,900",
    )
    assert seen["wide"] == []
    assert seen["paper"] == ("rgb(23, 22, 20)" if scheme == "0" else "rgb(251, 250, 247)")
