"""The report's section on routing: which topics questions were routed to, against the topics of their answers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from jasper_rag.explain.report_markup import MISSING, escape, lines
from jasper_rag.explain.routing_view import RoutingView
from jasper_rag.explain.topic_map import IntArray

MOST_CONFUSIONS = 12
"""Rows of the table of confusions."""

_SIDE, _NAME_WIDTH, _TEXT, _LETTER = 640, 230, 15, 0.53
_MOST_NAMED = 24
"""Rows up to which those of the heat map are named."""


def confusion_section(view: RoutingView) -> str:
    """Accuracy, the heat map, the largest confusions and every topic as tables; empty where no right topic is known."""
    if not view.confusion.any():
        return ""
    total, right = int(view.confusion.sum()), int(np.trace(view.confusion))
    unknown = view.asked - total
    left_out = f" {unknown:,} more have no answer in the corpus." if unknown else ""
    return f"""<p class="legend" id="routing-legend">The first topic of the routing is that of the answer for
<b>{right / total:.0%}</b> of {total:,} questions.{left_out} Rows of the heat map are the topics of the answers, columns
the topics routed to, both in the order of the map, so that topics beside each other are alike. The stronger a field,
the larger its share of the row.</p>
<div class="confusion">
{_heat_map(view)}
{_confusions(view)}
</div>
{_by_topic(view)}"""


def _around(view: RoutingView, topics: IntArray) -> list[int]:
    """These topics, in the order of their angles on the map."""
    middle = np.array([view.layout.width / 2, 0.5])
    angles = np.arctan2(*(view.layout.centres - middle).T[::-1]).tolist()
    angle_of = dict(zip(view.discs.tolist(), angles, strict=True))
    return sorted(topics.tolist(), key=lambda topic: (angle_of.get(topic, math.pi), topic))


def _heat_map(view: RoutingView) -> str:
    """Shares of each row as fields; counts and names in their titles."""
    rows = _around(view, np.flatnonzero(view.confusion.sum(axis=1)))
    columns = _around(view, np.flatnonzero(view.confusion.sum(axis=0)))
    is_named = len(rows) <= _MOST_NAMED
    left = _NAME_WIDTH if is_named else 0
    width = (_SIDE - left) / len(columns)
    height = min(max(width, 22.0 if is_named else 6.0), 40.0)
    bottom = height * len(rows)
    fields = "".join(_fields(view, rows, columns, left, width, height))
    frame = f'<rect class="frame" x="{left}" y="0" width="{_SIDE - left}" height="{bottom:.1f}"/>'
    names = ""
    if is_named:
        letters = int((_NAME_WIDTH - 12) / (_LETTER * _TEXT))
        names = "".join(
            f'<text x="{left - 8}" y="{(row + 0.5) * height + 0.35 * _TEXT:.1f}">'
            f"{escape(_cut(view.names[topic], letters))}</text>"
            for row, topic in enumerate(rows)
        )
    label = f"Heat map of {len(rows)} topics by {len(columns)}; the tables have its numbers"
    return (
        f'<figure><svg class="heat" viewBox="-1 -1 {_SIDE + 2} {bottom + 2:.1f}" role="img" aria-label="{label}">'
        f'{frame}{fields}<g font-size="{_TEXT}">{names}</g></svg>'
        "<figcaption>Down: topic of the answer. Across: topic routed to. Outlined: the right one.</figcaption></figure>"
    )


def _fields(
    view: RoutingView, rows: list[int], columns: list[int], left: int, width: float, height: float
) -> Iterator[str]:
    counts = view.confusion[np.ix_(rows, columns)]
    sums = counts.sum(axis=1)
    gap = 1.5 if width > 6 else 0.4
    for row, column in np.argwhere(counts).tolist():
        count, share = int(counts[row, column]), counts[row, column] / sums[row]
        kind = "hit" if rows[row] == columns[column] else "miss"
        noun = "question" if count == 1 else "questions"
        yield (
            f'<rect class="{kind}" x="{left + column * width:.1f}" y="{row * height:.1f}" '
            f'width="{width - gap:.1f}" height="{height - gap:.1f}" fill-opacity="{0.2 + 0.8 * share:.2f}">'
            f"<title>{escape(view.names[rows[row]])} → {escape(view.names[columns[column]])}: {count} {noun}, "
            f"{share:.0%}</title></rect>"
        )


def _confusions(view: RoutingView) -> str:
    off = view.confusion * (1 - np.eye(len(view.confusion), dtype=np.int64))
    ranked = np.argsort(-off, axis=None, kind="stable")[:MOST_CONFUSIONS]
    sums = view.confusion.sum(axis=1)
    rows = []
    for right, routed in (divmod(int(place), len(off)) for place in ranked):
        count = int(off[right, routed])
        if count:
            rows.append(
                f'<tr><th scope="row">{escape(view.names[right])}</th><td>{escape(view.names[routed])}</td>'
                f'<td class="number">{count:,}</td><td class="number">{count / sums[right]:.0%}</td></tr>'
            )
    if not rows:
        return '<p class="legend">No question was routed to another topic than that of its answer.</p>'
    return f"""<div class="scroll" role="region" aria-label="Largest confusions" tabindex="0"><table class="confusions">
<thead><tr><th scope="col">Topic of the answer</th><th scope="col">Routed to</th>
<th scope="col" class="number">Questions</th><th scope="col" class="number">Of its topic</th></tr></thead>
<tbody>
{lines(rows)}
</tbody></table></div>"""


def _by_topic(view: RoutingView) -> str:
    asked, routed, right = view.confusion.sum(axis=1), view.confusion.sum(axis=0), view.confusion.diagonal()
    rows = []
    for topic in np.argsort(-asked, kind="stable").tolist():
        share = f"{right[topic] / asked[topic]:.0%}" if asked[topic] else MISSING
        numbers = (f"{view.sizes[topic]:,}", f"{asked[topic]:,}", f"{routed[topic]:,}", share)
        cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
        rows.append(f'<tr><th scope="row">{escape(view.names[topic])}</th>{cells}</tr>')
    return f"""<details class="history"><summary>Every topic</summary>
<div class="scroll tall" role="region" aria-label="Every topic" tabindex="0"><table>
<thead><tr><th scope="col">Topic</th><th scope="col" class="number">Sources</th>
<th scope="col" class="number">Questions</th><th scope="col" class="number">Routed here</th>
<th scope="col" class="number">Rightly routed</th></tr></thead>
<tbody>
{lines(rows)}
</tbody></table></div></details>"""


def _cut(name: str, columns: int) -> str:
    """As many whole terms of a name as fit, at least the beginning of the first."""
    kept = ""
    for term in name.split(", "):
        longer = f"{kept}, {term}" if kept else term
        if len(longer) > columns:
            break
        kept = longer
    return kept or f"{name[: columns - 1]}…"
