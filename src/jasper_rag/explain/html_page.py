"""The shell of a self-contained HTML page: its own style and script and nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

from jasper_rag.explain.report_markup import escape, lines


class PagePart(NamedTuple):
    """A part of a page.

    Args:
        key: Its id; links may point to it, so it stays.
        title: Heading, and entry in the navigation.
        body: HTML below the heading; an empty one leaves the part out.
    """

    key: str
    title: str
    body: str


def render_page(title: str, header: str, parts: Iterable[PagePart], style: str, script: str) -> str:
    """The whole page; the same arguments give the same bytes.

    Args:
        title: Of the window; escaped here.
        header: HTML above the navigation.
        parts: In the order of the page.
        style: The only style sheet.
        script: The only script.
    """
    filled = [part for part in parts if part.body]
    links = "".join(f'<a href="#{part.key}">{part.title}</a>' for part in filled)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
{header}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{lines(_section(part) for part in filled)}
</main>
<script>{script}</script>
</body>
</html>
"""


def packaged(*names: str) -> str:
    """Files that stand beside this one, one after the other."""
    folder = resources.files("jasper_rag.explain")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def _section(part: PagePart) -> str:
    heading = f'<h2 id="{part.key}-heading">{part.title}</h2>'
    return f'<section id="{part.key}" aria-labelledby="{part.key}-heading">\n{heading}\n{part.body}\n</section>'


def _policy(style: str, script: str) -> str:
    """Content security policy: this very style and script and nothing else, so no network even by mistake."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
