"""One self-contained HTML page per run: nothing is loaded from anywhere, and the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jasper_rag.atomic_files import write_text
from jasper_rag.explain.html_page import PagePart, packaged, render_page
from jasper_rag.explain.report_data import ReportData
from jasper_rag.explain.report_examples import examples
from jasper_rag.explain.report_sections import comparison, facts, header, next_steps
from jasper_rag.explain.report_steering import steering
from jasper_rag.explain.report_training import training


class Section(NamedTuple):
    """A part of the page with a heading and an entry in the navigation.

    Args:
        key: Its id in the page; links may point to it, so it stays.
        title: The heading.
        body: Makes the HTML below the heading; an empty string leaves the section out.
    """

    key: str
    title: str
    body: Callable[[ReportData], str]


def _topic_map(data: ReportData) -> str:
    if data.routing is None:
        return ""
    from jasper_rag.explain.report_routing import topic_map_section  # needs NumPy; most of the page does not

    return topic_map_section(data.routing)


def _routing(data: ReportData) -> str:
    if data.routing is None:
        return ""
    from jasper_rag.explain.report_confusion import confusion_section  # needs NumPy

    return confusion_section(data.routing)


SECTIONS: tuple[Section, ...] = (
    Section("comparison", "Comparison", comparison),
    Section("steering", "Asked with a topic", steering),
    Section("map", "Topic map", _topic_map),
    Section("routing", "Routing", _routing),
    Section("training", "Training", training),
    Section("examples", "Examples, before and after", examples),
    Section("facts", "Facts", facts),
    Section("next", "What to run next", next_steps),
)
"""In the order of the page."""


def write_report(data: ReportData, path: str | Path) -> Path:
    """Write the report as one HTML file, atomically.

    Args:
        data: What to show; every text is escaped.
        path: File to create or replace.

    Returns:
        `path`.

    Raises:
        InputError: If the metrics have no systems, or hold something else where a number belongs.
    """
    path = Path(path)
    write_text(path, render_report(data))
    return path


def render_report(data: ReportData) -> str:
    """The page as a string; see `write_report`."""
    style, script = packaged("report.css"), packaged("report.js")
    if data.routing is not None:
        style += packaged("topic_plot.css", "report_routing.css")
        script += packaged("report_map.js")
    parts = (PagePart(section.key, section.title, section.body(data)) for section in SECTIONS)
    return render_page(f"{data.name} · JASPER-RAG report", header(data), parts, style, script)
