"""One self-contained HTML page per run: nothing is loaded from anywhere, and the same data give the same bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jasper_rag.atomic_files import write_text
from jasper_rag.explain.report_data import ReportData
from jasper_rag.explain.report_examples import examples
from jasper_rag.explain.report_markup import escape, lines
from jasper_rag.explain.report_sections import comparison, facts, header, next_steps, training


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


SECTIONS: tuple[Section, ...] = (
    Section("comparison", "Comparison", comparison),
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
    style, script = _packaged("report.css"), _packaged("report.js")
    filled = [(section, body) for section in SECTIONS if (body := section.body(data))]
    links = "".join(f'<a href="#{section.key}">{section.title}</a>' for section, _ in filled)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(data.name)} · JASPER-RAG report</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
{header(data)}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{lines(_section(section, body) for section, body in filled)}
</main>
<script>{script}</script>
</body>
</html>
"""


def _section(section: Section, body: str) -> str:
    heading = f'<h2 id="{section.key}-heading">{section.title}</h2>'
    return f'<section id="{section.key}" aria-labelledby="{section.key}-heading">\n{heading}\n{body}\n</section>'


def _packaged(name: str) -> str:
    return resources.files("jasper_rag.explain").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content security policy: this very style and script and nothing else, so no network even by mistake."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
