"""The report's map of topics: sources, a question of choice with its prediction and hits, and where it was routed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jasper_rag.explain.dataset_page_plots import bar
from jasper_rag.explain.report_markup import escape, lines
from jasper_rag.explain.routing_view import RoutedQuestion, RoutingView
from jasper_rag.explain.topic_map import Plane
from jasper_rag.explain.topic_plot import Topic, map_plot, on_plot, topic_colours

GRAIN = 10
"""Steps per unit of the plot in which places are written down."""

_WIDE_TEXT = 19.0
"""Height of labels, for a map about two thirds as wide as its own units."""


def topic_map_section(view: RoutingView) -> str:
    """The map, the questions to choose from, what is known of the chosen one, and the topics."""
    colours = dict(zip(view.discs.tolist(), topic_colours(view.layout), strict=True))
    topics = [Topic(topic, view.names[topic], view.sizes[topic]) for topic in view.discs.tolist()]
    plot = map_plot(
        view.layout,
        topics,
        _disc_of(view),
        wide=_WIDE_TEXT,
        above='<g id="map-drawn" aria-hidden="true"></g>',
    )
    drawn = "" if len(view.topics) == sum(view.sizes) else f" {len(view.topics):,} of {sum(view.sizes):,} are drawn."
    largest_first = sorted(topics, key=lambda topic: -topic.sources)
    picker = _picker(view) if view.questions else ""
    return f"""<p class="legend">Each disc is a topic and each dot a source: those that belong to their topic most
clearly stand in its middle, doubtful ones at the rim, on the side of the topics they resemble. A question and its
prediction stand where a source with their vector would.{drawn}</p>
<noscript><p class="legend">Choosing a question or a topic needs scripts; the tables below do not.</p></noscript>
<div class="explorer" id="explorer">
<div class="stage">
<div id="map-stage" role="application" tabindex="0" aria-label="Map of {len(topics)} topics; arrow keys go from \
source to source" aria-describedby="map-label">{plot}</div>
<output class="pointed" id="map-label" hidden></output>
</div>
{picker}
<div class="chosen" id="map-chosen" aria-live="polite" hidden></div>
</div>
<ul class="topics" id="map-topics" aria-label="Topics">
{lines(_topic(topic, colours[topic.number], max(view.sizes)) for topic in largest_first)}
</ul>
<script type="application/json" id="map-data">{embedded_json(_map_data(view, colours))}</script>"""


def embedded_json(value: Mapping[str, Any]) -> str:
    """Data as JSON that can stand in a script element: no "<" that could end it, and no half surrogate pairs."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Line separators are fine in JSON; "<" and "&" occur in strings only, where an escape means the same.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _disc_of(view: RoutingView) -> list[int]:
    place = {topic: disc for disc, topic in enumerate(view.discs.tolist())}
    return [place[topic] for topic in view.topics.tolist()]


def _picker(view: RoutingView) -> str:
    """Search, topic and list of the questions; hidden until the script, which they need, has run."""
    listed = sorted(view.discs.tolist(), key=lambda topic: view.names[topic].casefold())
    options = "".join(f'<option value="{topic}">{escape(view.names[topic])}</option>' for topic in listed)
    items = lines(_question(question, number, view) for number, question in enumerate(view.questions))
    count = len(view.questions)
    return f"""<form class="picker" id="map-picker" role="search" aria-label="Questions on the map" hidden>
<label for="map-search">Questions</label>
<input type="search" id="map-search" placeholder="words in questions" autocomplete="off" spellcheck="false">
<label for="map-topic">Topic</label>
<select id="map-topic"><option value="">all topics</option>{options}</select>
<output id="map-count" for="map-search map-topic">{count} of {count} questions</output>
<ol id="map-questions" aria-label="Questions, arrow keys move">
{items}
</ol>
</form>"""


def _question(question: RoutedQuestion, number: int, view: RoutingView) -> str:
    routed = escape(view.names[question.routed])
    if question.right < 0:
        said = f"{routed}"
    elif question.right == question.routed:
        said = f"<b>✓</b> {routed}"
    else:
        said = f"<b>✗</b> {routed}, not {escape(view.names[question.right])}"
    return (
        f'<li><button type="button" data-question="{number}" aria-pressed="false">{escape(question.text)} '
        f"<small>{said}</small></button></li>"
    )


def _topic(topic: Topic, colour: str, most: int) -> str:
    noun = "source" if topic.sources == 1 else "sources"
    return (
        f'<li data-topic="{topic.number}"><button type="button" class="name" aria-pressed="false" '
        f'title="{escape(topic.name)}">{escape(topic.name)}</button> '
        f'<span class="number">{topic.sources:,} <span class="unit">{noun}</span></span>'
        f"{bar(topic.sources / most, colour)}</li>"
    )


def _map_data(view: RoutingView, colours: Mapping[int, str]) -> dict[str, Any]:
    places = _grains(view, view.layout.points)
    return {
        "grain": GRAIN,
        "names": list(view.names),
        "colours": [colours.get(topic, "") for topic in range(len(view.names))],
        "sources": {
            "x": [place[0] for place in places],
            "y": [place[1] for place in places],
            "topic": view.topics.tolist(),
            "label": list(view.labels),
        },
        "questions": [
            {
                "text": question.text,
                "ends": _grains(view, np.array([question.place, question.predicted])),
                "hits": list(question.hits),
                "routes": [[topic, round(probability, 4)] for topic, probability in question.routes],
                "right": question.right,
            }
            for question in view.questions
        ],
    }


def _grains(view: RoutingView, places: Plane) -> list[list[int]]:
    grains: list[list[int]] = (on_plot(view.layout, places) * GRAIN).round().astype(int).tolist()
    return grains
