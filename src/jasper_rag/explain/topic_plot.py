"""The map of topics as inline SVG, on the dataset page and in the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jasper_rag.explain.report_markup import clip, escape
from jasper_rag.explain.topic_map import Plane, TopicMap

WIDTH = 1000
_MARGIN = 12
WIDE_TEXT, NARROW_TEXT = 13.0, 31.0
"""Height of labels in units of the map, where the map is about as wide as its own units and where it is a phone."""
_LABEL_COLUMNS = 24
_LETTER = 0.56
"""Mean width of a letter, as a share of the height."""
_OUTREACH = 2.6
"""Most width of a label, in radii of its disc, if another term of the name is shorter."""
_APART = 0.2
"""Room around a label, as a share of its height."""
_DOT = 0.55
"""Diameter of a dot as a share of the distance between dots."""


class Topic(NamedTuple):
    """What the map says of one topic: its number in the list, name, and sources."""

    number: int
    name: str
    sources: int


def map_scale(found: TopicMap) -> float:
    """Units of the plot for one unit of the map."""
    return (WIDTH - 2 * _MARGIN) / found.width


def on_plot(found: TopicMap, places: Plane) -> Plane:
    """Places of the map [n, 2] in units of the plot."""
    plotted: Plane = places * map_scale(found) + _MARGIN
    return plotted


def map_plot(
    found: TopicMap,
    topics: Sequence[Topic],
    assignment: Sequence[int],
    *,
    wide: float = WIDE_TEXT,
    above: str = "",
) -> str:
    """The map; every topic is a group, so that one can be singled out.

    Args:
        found: Places.
        topics: One per disc.
        assignment: Disc of each point of `found`.
        wide: Height of labels on a wide screen.
        above: SVG drawn over all of it.
    """
    scale = map_scale(found)
    centres, radii = on_plot(found, found.centres), found.radii * scale
    points, height = on_plot(found, found.points), scale + 2 * _MARGIN
    discs = np.asarray(assignment)
    # Discs have areas proportional to their numbers of dots, so one distance between dots holds for all.
    spacing = math.sqrt(math.pi * float((radii**2).sum()) / max(len(points), 1))
    colours = topic_colours(found)
    parts = []
    for disc, topic in enumerate(topics):
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points[discs == disc])
        x, y = centres[disc]
        parts.append(
            f'<g class="topic" data-topic="{topic.number}" fill="{colours[disc]}" stroke="{colours[disc]}">'
            f"<title>{escape(topic.name)}: {topic.sources:,} sources</title>"
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radii[disc]:.1f}"/><path d="{dots}"/></g>'
        )
    boxes = [(float(x), float(y), float(radius)) for (x, y), radius in zip(centres, radii, strict=True)]
    for kind, size in (("wide", wide), ("narrow", NARROW_TEXT)):
        parts.append(f'<g class="labels {kind}">{"".join(_labels(topics, boxes, size, height))}</g>')
    parts.append(above)
    return (
        f'<svg class="map" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="Map of {len(topics)} topics" '
        f'stroke-width="{min(max(_DOT * spacing, 1.2), 9):.2f}" stroke-linecap="round">{"".join(parts)}</svg>'
    )


def _labels(
    topics: Sequence[Topic], discs: Sequence[tuple[float, float, float]], size: float, height: float
) -> Iterator[str]:
    """Names on the map, largest topics first; a name that would cover another one is left out."""
    taken: list[tuple[float, float, float, float]] = []
    for place in sorted(range(len(topics)), key=lambda number: -discs[number][2]):
        x, y, radius = discs[place]
        name = _short_name(topics[place].name, radius, size)
        half = (_LETTER * size * len(name)) / 2 + _APART * size
        x = min(max(x, half), WIDTH - half)
        for shift in (0.0, 0.55 * radius, -0.55 * radius):
            above, below = y + shift - (0.5 + _APART) * size, y + shift + (0.5 + _APART) * size
            box = (x - half, above, x + half, below)
            inside = box[1] >= 0 and box[3] <= height
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield (
                    f'<text x="{x:.1f}" y="{y + shift + 0.35 * size:.1f}" data-topic="{topics[place].number}">'
                    f"{escape(name)}</text>"
                )
                break


def _short_name(name: str, radius: float, size: float) -> str:
    """One term of a name, for the list below the map has all: the first that fits its disc, else the first."""
    terms = [clip(term, _LABEL_COLUMNS) for term in name.split(", ") if term] or [name]
    return next((term for term in terms if _LETTER * size * len(term) <= _OUTREACH * radius), terms[0])


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def topic_colours(found: TopicMap) -> list[str]:
    """A colour for each disc, "#rrggbb": the hue goes round the map, so that near topics have near colours.

    All are about equally far from white and from black, to stand on either.
    """
    middle = np.array([found.width / 2, 0.5])
    hues = np.degrees(np.arctan2(*(found.centres - middle).T[::-1])) + 150
    return [_colour(0.58 + 0.05 * (disc % 3), 0.125, float(hue)) for disc, hue in enumerate(hues)]


def _colour(lightness: float, chroma: float, hue: float) -> str:
    """A colour of the OKLab space (Ottosson 2020) in sRGB."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    bounded = (min(max(value, 0.0), 1.0) for value in linear)
    encoded = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in bounded)
    return "#" + "".join(f"{round(255 * value):02x}" for value in encoded)
