"""Plots as inline SVG: intervals on a shared scale, and curves by epoch. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jasper_rag.explain.report_markup import escape, fixed

Point = tuple[float, float]

_WIDTH, _HEIGHT = 400, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 4, 16, 40
_MARKED_POINTS = 40
_NO_SPREAD = 1e-12
_ROW_WIDTH, _ROW_HEIGHT = 260, 48
# Lines across a row go beyond it and are cut off by the cell, which is as high as the name beside it.
_ROW_OVERLAP = 40


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values to user units, with ticks at round values.

    Args:
        ticks: At least two values, rising by equal steps.
        start: Where the first tick lies.
        stop: Where the last tick lies; smaller than `start` on an upward axis.
    """

    ticks: tuple[float, ...]
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Position of a value: start + (value - first) / (last - first) * (stop - start), to a tenth."""
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return round(self.start + share * (self.stop - self.start), 1)

    def label(self, tick: float) -> str:
        """A tick with as many decimals as the steps need; very small ones with an exponent."""
        step = self.ticks[1] - self.ticks[0]
        digits = max(0, math.ceil(-math.log10(step) - 1e-9))
        # A step of 0.25 takes one decimal more than its size says.
        digits += round(step * 10**digits, 6) % 1 != 0
        return fixed(tick, digits) if digits <= 4 else f"{tick:.3g}"


def scale_over(values: Sequence[float], start: float, stop: float, steps: int = 4, least: float = 0.0) -> Scale:
    """The scale with round ticks that just covers `values`.

    Args:
        values: At least one finite value.
        start: Where the scale starts.
        stop: Where it ends.
        steps: About so many steps; the step is 1, 2, 2.5 or 5 times a power of ten.
        least: Smallest range to cover. One fiftieth of the values is covered anyway: less is no movement worth a plot.
    """
    low, high = min(values), max(values)
    spread = max(high - low, least, 0.02 * abs(high))
    spread = 1.0 if spread < _NO_SPREAD else spread
    power = 10.0 ** math.floor(math.log10(spread / steps))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * steps >= spread * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return Scale(tuple(step * position for position in range(first, last + 1)), start, stop)


def interval(
    value: float, low: float | None, high: float | None, *, scale: Scale, reference: float | None, ours: bool
) -> str:
    """One row of the interval plot: a dot, its whisker, and the reference as a line through the row.

    Args:
        value: Where the dot is.
        low: Lower end of the whisker; no whisker without both ends.
        high: Upper end.
        scale: Shared by all rows.
        reference: Value of the line; None draws none.
        ours: Draws a filled dot in the accent colour, instead of a hollow one.
    """
    label, parts = fixed(value), [_gridlines(scale)]
    if reference is not None:
        parts.append(f'<path class="reference" d="{_across(scale(reference))}"/>')
    middle = _ROW_HEIGHT // 2
    if low is not None and high is not None:
        label += f", 95 % interval {fixed(low)} to {fixed(high)}"
        parts.append(f'<path class="whisker" d="M{scale(low)} {middle - 5}v10m0-5H{scale(high)}m0-5v10"/>')
    parts.append(f'<circle class="dot" cx="{scale(value)}" cy="{middle}" r="4.5"/>')
    kind = "row ours" if ours else "row"
    return (
        f'<svg class="{kind}" width="{_ROW_WIDTH}" height="{_ROW_HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def interval_scale(values: Sequence[float]) -> Scale:
    """The scale of the rows of an interval plot, over every dot and whisker end."""
    return scale_over(values, 16, _ROW_WIDTH - 16, steps=6, least=0.02)


def interval_axis(scale: Scale) -> str:
    """Tick labels below the rows of an interval plot."""
    labels = "".join(f'<text x="{scale(tick)}" y="14">{scale.label(tick)}</text>' for tick in scale.ticks)
    return f'<svg class="row" width="{_ROW_WIDTH}" height="22" aria-hidden="true">{labels}</svg>'


def curve(
    points: Sequence[Point], *, name: str, reference: tuple[str, float] | None = None, best: str | None = None
) -> str:
    """A value by epoch.

    Args:
        points: (epoch, value) by rising epoch, at least one.
        name: What the values are, for those who listen to the page.
        reference: Label and height of a horizontal line.
        best: Label of the highest point, which is ringed; None marks none.
    """
    values = [value for _, value in points] + ([reference[1]] if reference else [])
    # Room above for the label of the best point, and below for the label of the line.
    room = 0.12 * (max(values) - min(values))
    least, most = min(values) - room * (reference is not None), max(values) + room * (best is not None)
    vertical = scale_over([least, most], _HEIGHT - _BOTTOM, _TOP)
    epochs = [epoch for epoch, _ in points]
    horizontal = Scale((epochs[0], max(epochs[-1], epochs[0] + 1)), _LEFT + 8, _WIDTH - _RIGHT - 8)
    places = [(horizontal(epoch), vertical(value)) for epoch, value in points]
    parts = [_frame(horizontal, vertical)]
    if reference:
        parts.append(_reference_line(reference, vertical))
    parts.append(f'<polyline class="curve" points="{" ".join(f"{x},{y}" for x, y in places)}"/>')
    if len(points) <= _MARKED_POINTS:
        parts += [_marked(place, point) for place, point in zip(places, points, strict=True)]
    if best is not None:
        parts.append(_best_point(points, places, best))
    label = escape(f"{name} by epoch, from {fixed(points[0][1])} to {fixed(points[-1][1])}")
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _gridlines(scale: Scale) -> str:
    return f'<path class="grid" d="{"".join(_across(scale(tick)) for tick in scale.ticks)}"/>'


def _across(x: float) -> str:
    """A vertical line through a row of an interval plot, as a path."""
    return f"M{x} {-_ROW_OVERLAP}V{_ROW_HEIGHT + _ROW_OVERLAP}"


def _frame(horizontal: Scale, vertical: Scale) -> str:
    """Horizontal grid lines, both rows of labels and the name of the horizontal axis."""
    grid = "".join(f"M{_LEFT} {vertical(tick)}H{_WIDTH - _RIGHT}" for tick in vertical.ticks)
    heights = "".join(
        f'<text class="value" x="{_LEFT - 8}" y="{vertical(tick) + 4:.1f}">{vertical.label(tick)}</text>'
        for tick in vertical.ticks
    )
    first, last = horizontal.ticks
    whole = [tick for tick in scale_over((first, last), 0, 1, least=4).ticks if first <= tick <= last and tick % 1 == 0]
    row = _HEIGHT - _BOTTOM + 18
    epochs = "".join(f'<text x="{horizontal(tick)}" y="{row}">{tick:.0f}</text>' for tick in whole)
    name = f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{row + 15}">epoch</text>'
    return f'<path class="grid" d="{grid}"/>{heights}{epochs}{name}'


def _reference_line(reference: tuple[str, float], vertical: Scale) -> str:
    label, value = reference
    height = vertical(value)
    # Below the line, where a curve that gains leaves room; above it at the very bottom.
    baseline = height + 15 if height + 18 < _HEIGHT - _BOTTOM else height - 6
    return (
        f'<path class="reference" d="M{_LEFT} {height}H{_WIDTH - _RIGHT}"/>'
        f'<text class="note" x="{_WIDTH - _RIGHT - 4}" y="{baseline:.1f}">{escape(label)} {fixed(value)}</text>'
    )


def _marked(place: Point, point: Point) -> str:
    return (
        f'<circle class="dot" cx="{place[0]}" cy="{place[1]}" r="3">'
        f"<title>epoch {point[0]:.0f}: {fixed(point[1], 4)}</title></circle>"
    )


def _best_point(points: Sequence[Point], places: Sequence[Point], label: str) -> str:
    """A ring around the highest point, the earliest of equals, and its label above."""
    position = max(range(len(points)), key=lambda index: points[index][1])
    (x, y), (epoch, value) = places[position], points[position]
    side = "start" if x < _WIDTH / 3 else "end" if x > _WIDTH * 2 / 3 else "middle"
    return (
        f'<circle class="ring" cx="{x}" cy="{y}" r="7"/>'
        f'<text class="best {side}" x="{x}" y="{y - 13:.1f}">{escape(label)} {fixed(value)}, epoch {epoch:.0f}</text>'
    )
