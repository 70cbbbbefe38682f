"""An explanation as a picture: what to do, how likely each topic is, how usual the question is, what it is like.

Drawn on a `Figure` of its own: no window, no global state of matplotlib.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jasper_rag.atomic_files import replacing

PAPER, INK, SOFT, RULE, ACCENT, QUIET = "#ffffff", "#1d1b18", "#5e5950", "#e4e0d8", "#17694f", "#c9c3b7"
WARM = "#b27312"

_WIDTH, _MARGIN = 8.6, 0.45
_LINE, _BAR, _GAP = 0.23, 0.30, 0.30
"""Inches: a line of text, a bar with its share of the space, the space between two parts."""
_NAMES = 2.75
"""Inches left of the bars, for the names of the topics."""
_TOPICS = 8
_COLUMNS = 104
"""Characters of a line of text across the figure."""
_NAME, _PAIRS = 34, 5
_UNUSUAL = 0.95
_DPI = 150


def visualize_explanation(
    xai: Mapping[str, Any], title: str | None = None, save_path: str | Path | None = None
) -> Figure:
    """Draw what `XAIInterface.explain_prediction` says.

    Args:
        xai: The explanation; vectors are not needed.
        title: Above it, for example the question; None names the topic.
        save_path: Where to write it too, whole or not at all, in the format of its suffix (png without one).

    Raises:
        KeyError: `xai` lacks a documented key.
        ValueError: matplotlib does not know the suffix.
        OSError: It cannot be written.
    """
    heading = _wrapped(title or f"Topic: {xai['primary_subspace']}", 62)
    signal = _wrapped(xai["actionable_signal"], _COLUMNS)
    bars = _bars(xai["routing_distribution"])
    pairs = _pair_lines(xai["similar_known_pairs"])
    quantile = xai.get("atypicality_quantile")
    heights = [
        len(heading) * 0.29 + 0.08,
        len(signal) * _LINE + _GAP,
        _LINE + 0.1 + len(bars) * _BAR,
        0.0 if quantile is None else _GAP + _LINE + 0.1 + 0.42,
        (_GAP + _LINE + 0.1 + sum(len(lines) * _LINE + 0.09 for _, lines in pairs)) if pairs else 0.0,
    ]
    page = _Page(sum(heights) + 2 * _MARGIN)
    page.text(heading, size=14, weight="bold", line=0.29)
    page.down(0.08)
    page.text(signal, size=9.5, colour=SOFT)
    page.down(_GAP)
    page.head("Topics")
    _draw_bars(page.axes(len(bars) * _BAR, left=_MARGIN + _NAMES), bars, str(xai["primary_subspace"]))
    if quantile is not None:
        page.down(_GAP)
        page.head(f"More unusual than {_percent(quantile)} of the training questions")
        _draw_gauge(page.axes(0.42, left=_MARGIN), float(quantile))
    if pairs:
        page.down(_GAP)
        page.head("Known questions most like it")
        for similarity, lines in pairs:
            page.beside(f"{similarity:.2f}", lines)
    if save_path is not None:
        _save(page.figure, Path(save_path))
    return page.figure


class _Page:
    """A figure that is filled from its top."""

    def __init__(self, height: float) -> None:
        self.height, self.used = height, _MARGIN
        self.figure = Figure(figsize=(_WIDTH, height), facecolor=PAPER)

    def down(self, inches: float) -> None:
        self.used += inches

    def put(self, left: float, text: str, **style: Any) -> None:
        place = (left / _WIDTH, 1 - self.used / self.height)
        # A dollar sign in somebody's text is no formula.
        self.figure.text(*place, text, va="top", ha="left", parse_math=False, **style)

    def text(
        self, lines: Sequence[str], *, size: float, colour: str = INK, weight: str = "normal", line: float = _LINE
    ) -> None:
        for each in lines:
            self.put(_MARGIN, each, fontsize=size, color=colour, fontweight=weight)
            self.down(line)

    def head(self, text: str) -> None:
        self.text([text], size=9.5, weight="bold")
        self.down(0.1)

    def beside(self, mark: str, lines: Sequence[tuple[str, str]]) -> None:
        self.put(_MARGIN, mark, fontsize=9.5, color=ACCENT, fontweight="bold")
        for text, colour in lines:
            self.put(_MARGIN + 0.5, text, fontsize=9, color=colour)
            self.down(_LINE)
        self.down(0.09)

    def axes(self, height: float, left: float) -> Axes:
        bottom = 1 - (self.used + height) / self.height
        box = (left / _WIDTH, bottom, (_WIDTH - left - _MARGIN - 0.45) / _WIDTH, height / self.height)
        self.down(height)
        axes = self.figure.add_axes(box, facecolor=PAPER)
        axes.set_axis_off()
        return axes


def _bars(distribution: Mapping[str, float]) -> list[tuple[str, float, bool]]:
    """(name, weight, whether it is one topic) of the likeliest topics, and of all others together."""
    ranked = sorted(distribution.items(), key=lambda pair: -pair[1])
    shown = [(name, weight, True) for name, weight in ranked[:_TOPICS]]
    rest = ranked[_TOPICS:]
    if len(rest) == 1:
        shown.append((*rest[0], True))
    elif rest:
        shown.append((f"{len(rest)} other topics", sum(weight for _, weight in rest), False))
    return shown


def _draw_bars(axes: Axes, bars: Sequence[tuple[str, float, bool]], primary: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    start = -_NAMES / (_WIDTH * axes.get_position().width)
    for row, (name, weight, is_topic) in enumerate(bars):
        first = is_topic and name == primary
        axes.barh(row, 1, height=0.62, color=RULE, alpha=0.45, linewidth=0)
        axes.barh(row, weight, height=0.62, color=ACCENT if first else QUIET, linewidth=0)
        style: dict[str, Any] = {"va": "center_baseline", "fontsize": 9, "clip_on": False, "parse_math": False}
        shown = textwrap.shorten(name, _NAME, placeholder=" …") or name[:_NAME]
        axes.text(
            start,
            row,
            shown,
            ha="left",
            color=INK if is_topic else SOFT,
            fontweight="bold" if first else "normal",
            fontstyle="normal" if is_topic else "italic",
            **style,
        )
        axes.text(1.015, row, _percent(weight), ha="left", color=INK if first else SOFT, **style)


def _draw_gauge(axes: Axes, quantile: float) -> None:
    """A line from the most usual to the most unusual training question, and this one on it."""
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.plot([0, 1], [0.72, 0.72], color=RULE, linewidth=5, solid_capstyle="butt")
    axes.plot([_UNUSUAL, 1], [0.72, 0.72], color=WARM, alpha=0.45, linewidth=5, solid_capstyle="butt")
    colour = WARM if quantile >= _UNUSUAL else ACCENT
    axes.plot([quantile], [0.72], marker="o", markersize=9, color=colour, markeredgecolor=PAPER, clip_on=False)
    style: dict[str, Any] = {"va": "center", "fontsize": 8, "color": SOFT}
    axes.text(0, 0.1, "usual", ha="left", **style)
    axes.text(1, 0.1, "unusual", ha="right", **style)


def _pair_lines(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[float, list[tuple[str, str]]]]:
    """(similarity, (text, colour) of each line) of the first known pairs."""
    found = []
    for pair in pairs[:_PAIRS]:
        asked = pair.get("question") or f"question {pair.get('question_id', pair['index'])}"
        answer = pair.get("source") or f"source {pair.get('source_id', pair['index'])}"
        lines = [(line, INK) for line in _wrapped(asked, 96)[:2]]
        found.append((float(pair["similarity"]), [*lines, (textwrap.shorten(answer, 96, placeholder=" …"), SOFT)]))
    return found


def _wrapped(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns, max_lines=4, placeholder=" …") or [""]


def _percent(share: float) -> str:
    return "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:] or "png", dpi=_DPI, facecolor=PAPER)
