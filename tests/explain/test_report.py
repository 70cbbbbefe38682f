from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.evaluation.systems import SYSTEM_NAMES
from jasper_rag.explain.report import SECTIONS, render_report, write_report
from jasper_rag.explain.report_data import Example, Hit, ReportData
from jasper_rag.explain.report_examples import first_relevant, outcome

EVIL = """<script>alert("x")</script></style>&'"""


class Page(HTMLParser):
    """Elements and text of a page; fails on one that is not well nested."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, Mapping[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.words.append(data)

    def all(self, tag: str) -> list[Mapping[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def hit(name: str, *, relevant: bool = False, text: str = "Some text.") -> Hit:
    return Hit(name, name.title(), text, 0.5, relevant)


def hits(relevant_rank: int, size: int = 10) -> tuple[Hit, ...]:
    return tuple(hit(f"d{rank}", relevant=rank == relevant_rank) for rank in range(1, size + 1))


@pytest.fixture
def data() -> ReportData:
    systems = {
        key: {
            "ndcg@10": 0.5 + position / 100,
            "recall@10": 0.7,
            "mrr@10": 0.4,
            "train_seconds": 1.5,
            "ndcg@10_low": 0.45 + position / 100,
            "ndcg@10_high": 0.55 + position / 100,
            "p_value": None if key == "plain" else 0.0001,
        }
        for position, key in enumerate(SYSTEM_NAMES)
    }
    metrics = {"dataset": "stdlib", "split": "test", "seed": 0, "questions": 410, "documents": 4380, "systems": systems}
    history = [
        {"epoch": epoch, "train/total": 2.0 - epoch / 10, "val/ndcg@10": 0.5 + epoch / 100, "train/lr": 1e-3}
        | {"val/ndcg@10_question": 0.49}
        for epoch in range(3)
    ]
    return ReportData(
        name="A run",
        metrics=metrics | {"verdict": "JASPER is better (p < 0.001).", "steering_modes": {"search": {}, "modes": {}}},
        history=history,
        examples=(Example("How do I sort?", hits(7), hits(1), note="A remark."), Example("Why?", hits(1), hits(2))),
        facts={"Encoder": "all-MiniLM-L6-v2", "Leaks": "none"},
        next_commands=["jasper search run 'a question'"],
    )


def test_the_file_holds_the_page(data: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_report(data, str(path)) == path
    assert path.read_text(encoding="utf-8") == render_report(data)
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_made_leaves_the_old_one(data: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(InputError):
        write_report(replace(data, metrics={}), path)
    assert path.read_text() == "old"


def test_the_same_data_give_the_same_page(data: ReportData) -> None:
    assert render_report(data) == render_report(replace(data))


def test_verdict_and_size_stand_at_the_top(data: ReportData) -> None:
    text = Page(render_report(data)).text
    assert "(p&nbsp;&lt;&nbsp;0.001)." in render_report(data)
    assert "stdlib · test split · 410 questions · 4,380 documents · seed 0" in text
    assert text.index("JASPER is better") < text.index("410 questions") < text.index("Comparison")


def test_every_system_has_a_row_and_one_is_best(data: ReportData) -> None:
    page = render_report(data)
    rows = re.findall(r"<tr[^>]*><th scope=\"row\">(.*?)</tr>", page.split("<tbody>")[1].split("</tbody>")[0])
    names = [re.sub(r"<[^>]+>", "", row.split("</th>")[0]) for row in rows]
    assert [re.sub(r"[()]", "", name) for name in SYSTEM_NAMES.values()] == [
        name.replace(" best", "") for name in names
    ]
    assert [name for name in names if " best" in name] == ["JASPER + BM25, weighted best search default"]
    assert "+0.080" in rows[-1]
    assert "&lt; 0.001" in rows[-1]
    assert all('class="reference"' in row for row in rows)


def test_a_run_without_the_plain_encoder_has_no_reference(data: ReportData) -> None:
    page = render_report(replace(data, metrics={"systems": {"mine": {"ndcg@10": 0.5}}}, history=()))
    assert 'class="reference"' not in page
    assert "dashed line" not in page
    assert '<dl class="figures"' not in page


def test_a_loss_of_quality_is_said_without_the_accent(data: ReportData) -> None:
    page = render_report(replace(data, metrics={"systems": {"plain": {"ndcg@10": 0.5}, "jasper": {"ndcg@10": 0.48}}}))
    assert "\N{MINUS SIGN}0.020" in page
    assert '<span class="up">' not in page


def test_headings_are_linked_and_ids_are_unique(data: ReportData) -> None:
    page = Page(render_report(data))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    shown = [section.key for section in SECTIONS if section.key not in {"map", "routing"}]
    assert [link["href"] for link in page.all("a")] == [f"#{key}" for key in shown]
    referred = [value for _, attributes in page.elements for name, value in attributes.items() if "edby" in name]
    assert {*referred, *shown} <= set(ids)


def test_sections_without_data_are_left_out(data: ReportData) -> None:
    page = Page(render_report(ReportData(name="Small", metrics={"systems": {"plain": {"ndcg@10": 0.5}}})))
    assert [link["href"] for link in page.all("a")] == ["#comparison"]
    assert len(page.all("section")) == 1


def test_a_history_with_gaps_is_drawn_from_what_is_there(data: ReportData) -> None:
    history = [{"epoch": 0, "val/ndcg@10": float("nan")}, {"epoch": 1, "val/ndcg@10": 0.5}, {"train/total": 1.0}]
    page = render_report(replace(data, history=history))
    assert page.count('<svg class="plot"') == 1
    assert "best 0.500, epoch 1" in page


def test_nothing_is_loaded_from_anywhere(data: ReportData) -> None:
    text = render_report(data)
    page = Page(text)
    targets = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert all(target.startswith("#") or target == "data:," for target in targets)
    assert "@import" not in text
    assert "url(" not in text
    assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy


def test_the_policy_allows_exactly_our_style_and_script(data: ReportData) -> None:
    text = render_report(data)
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text
    assert not any(name == "style" or name.startswith("on") for _, found in Page(text).elements for name in found)


def test_texts_from_outside_cannot_become_markup(data: ReportData) -> None:
    evil_hit = Hit(EVIL, EVIL, EVIL, 0.5, relevant=True)
    metrics: dict[str, Any] = {"dataset": EVIL, "split": EVIL, "verdict": EVIL}
    evil = ReportData(
        name=EVIL,
        metrics=metrics | {"systems": {EVIL: {"ndcg@10": 0.5}}},
        examples=(Example(EVIL, (evil_hit,), (replace(evil_hit, title=""),), note=EVIL),),
        facts={EVIL: EVIL},
        next_commands=(EVIL,),
    )
    text = render_report(evil)
    page = Page(text)
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert "alert(" not in re.sub(
        r"&lt;script&gt;alert\(&quot;x&quot;\)&lt;/script&gt;&lt;/style&gt;&amp;&#x27;", "", text
    )
    assert page.text.count("alert(") >= 13


def test_strange_letters_reach_the_file(data: ReportData, tmp_path: Path) -> None:
    page = write_report(replace(data, name="\ud800 \x00 日本語"), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>?   日本語</h1>" in page


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(7, 1, "better"), (1, 2, "worse"), (3, 3, "same"), (0, 4, "better"), (4, 0, "worse"), (0, 0, "same")],
)
def test_the_outcome_is_that_of_the_first_relevant_hit(before: int, after: int, expected: str) -> None:
    example = Example("q", hits(before), hits(after))
    assert first_relevant(example.before) == (before or None)
    assert outcome(example) == expected


def test_examples_say_what_changed(data: ReportData) -> None:
    lists = Example("q", hits(0), (hit("new"), *hits(2)[1:]))
    page = Page(render_report(replace(data, examples=(*data.examples, lists, Example("q", (), hits(1)))))).text
    assert "Better rank 7 → 1" in page
    assert "Worse rank 1 → 2" in page
    assert "Better not in the first 10 → 2" in page
    assert "Better not in the first 0 → 1" in page
    assert "No hits." in page
    assert "A remark." in page
    assert "new 0.500 New" in page


def test_a_hit_says_where_it_stood(data: ReportData) -> None:
    first, second = hit("a"), hit("b", relevant=True)
    page = Page(render_report(replace(data, examples=(Example("q", (first, second), (second, first)),)))).text
    assert "was 2 0.500 B ✓ relevant" in page
    assert "was 1 0.500 A" in page


def test_the_relevant_hit_is_shown_however_deep(data: ReportData) -> None:
    page = Page(render_report(data))
    values = [item["value"] for item in page.all("li") if "value" in item]
    assert values[:6] == ["1", "2", "3", "4", "5", "7"]
    assert [item["value"] for item in page.all("li") if item.get("class") == "relevant"] == ["7", "1", "1", "2"]


def test_only_the_first_examples_are_open(data: ReportData) -> None:
    page = Page(render_report(replace(data, examples=[*data.examples] * 5)))
    opened = ["open" in details for details in page.all("details") if details.get("class") == "example"]
    assert opened == [True] * 3 + [False] * 7


def test_the_filter_is_labelled_and_waits_for_its_script(data: ReportData) -> None:
    page = Page(render_report(data))
    (form,) = page.all("form")
    assert "hidden" in form
    script = resources.files("jasper_rag.explain").joinpath("report.js").read_text(encoding="utf-8")
    named = set(re.findall(r'byId\("([\w-]+)"\)', script))
    assert named <= {attributes.get("id") for _, attributes in page.elements}
    assert "all (2) Better (1) Worse (1)" in page.text


@pytest.mark.slow
@pytest.mark.parametrize("text", ["word & more " * 200, "文書の本文" * 200])
def test_fifty_examples_stay_small(data: ReportData, text: str) -> None:
    full = tuple(Hit(f"d{rank}", text[:100], text, 0.5, rank == 9) for rank in range(10))
    page = render_report(replace(data, examples=(Example(text, full, full[::-1]),) * 50))
    assert len(page.encode()) < 300_000


def test_colours_have_contrast() -> None:
    style = resources.files("jasper_rag.explain").joinpath("report.css").read_text(encoding="utf-8")
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w+);", scheme))
        for text, ground in product(("ink", "soft", "accent"), ("paper", "raised", "tint")):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def contrast(first: str, second: str) -> float:
    """Contrast ratio of WCAG 2: (L1 + 0.05) / (L2 + 0.05)."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
