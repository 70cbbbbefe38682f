"""Figures of a training run: losses and retrieval by epoch, shares of steering. Matplotlib's global state stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from jasper_rag.dataset_layout import VARIANTS
from jasper_rag.training.health import LOSSES
from jasper_rag.training.training_panels import (
    COURSES,
    DRAW,
    PAPER,
    RETRIEVAL,
    SOFT,
    TRAIN,
    VAL,
    VARIANT_COLOURS,
    History,
    end_labels,
    frame,
    is_finite,
    modes,
    series,
    title,
)

_COLUMNS, _PANEL_WIDTH, _PANEL_HEIGHT = 3, 4.1, 2.75
_KEY_HEIGHT = 0.55
_BARS = 40
"""Up to so many epochs every one gets a bar."""


class _Panel(NamedTuple):
    kind: str
    """"loss", "retrieval" or "course"."""
    name: str


def loss_figure(history: History) -> Figure | None:
    """One panel per loss with train and val, retrieval by steering mode, learning rate and momentum by epoch.

    Args:
        history: One mapping per epoch, "epoch" and metrics as `TrainingMonitor` has them.

    Returns:
        The figure; None where there is nothing to draw.
    """
    panels = _panels(history)
    if not panels:
        return None
    columns = min(_COLUMNS, len(panels) + (panels[0].kind == "retrieval"))
    places = _places(panels, columns)
    rows = places[-1][0] + 1
    height = rows * _PANEL_HEIGHT + _KEY_HEIGHT
    room = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=0.03, hspace=0.05, rect=(0, 0, 1, 1 - 0.4 / height))
    figure = Figure(figsize=(columns * _PANEL_WIDTH, height), facecolor=PAPER, layout=room)
    grid = figure.add_gridspec(rows, columns)
    for panel, (row, first, last) in zip(panels, places, strict=True):
        axes = _axes(figure, grid, row, first, last)
        frame(axes, history)
        DRAW[panel.kind](axes, history, panel.name)
        below = any(place[0] > row and place[1] <= first <= place[2] for place in places)
        axes.set_xlabel("" if below else "epoch", color=SOFT, fontsize=9)
    _key(figure)
    return figure


def _axes(figure: Figure, grid: GridSpec, row: int, first: int, last: int) -> Axes:
    if first == last:
        return figure.add_subplot(grid[row, first])
    # The names at the ends of its lines have a place of their own, or the panels below would make room for them too.
    inside = grid[row, first : last + 1].subgridspec(1, 2, width_ratios=(5.4, 1), wspace=0)
    figure.add_subplot(inside[1]).set_axis_off()
    return figure.add_subplot(inside[0])


def _places(panels: Sequence[_Panel], columns: int) -> list[tuple[int, int, int]]:
    """(row, first column, last column) of each panel; retrieval takes two columns."""
    places, cell = [], 0
    for panel in panels:
        width = 2 if panel.kind == "retrieval" and columns > 1 else 1
        places.append((cell // columns, cell % columns, cell % columns + width - 1))
        cell += width
    return places


def steering_figure(history: History) -> Figure | None:
    """Shares of the steering variants by epoch, stacked.

    Args:
        history: With `train/steering_<variant>`, or `train/steering_variant_<N>_frac` as the original project has it.

    Returns:
        The figure; None where no epoch has shares.
    """
    rows = [(float(row["epoch"]), shares) for row in history if (shares := _shares(row)) is not None]
    if not rows:
        return None
    figure = Figure(figsize=(7.2, 3.6), facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot()
    frame(axes, history)
    epochs = [epoch for epoch, _ in rows]
    floor = [0.0] * len(rows)
    for number, variant in enumerate(VARIANTS):
        top = [low + shares[number] for low, (_, shares) in zip(floor, rows, strict=True)]
        colour = VARIANT_COLOURS[variant]
        if len(rows) <= _BARS:
            heights = [high - low for low, high in zip(floor, top, strict=True)]
            axes.bar(epochs, heights, 0.86, bottom=floor, color=colour, edgecolor=PAPER, linewidth=0.8)
        else:
            axes.fill_between(epochs, floor, top, color=colour, edgecolor=PAPER, linewidth=0.8)
        floor = top
    edges = (0.5, 0.5) if len(rows) <= _BARS else (0.0, 0.0)
    axes.set_xlim(epochs[0] - edges[0], epochs[-1] + edges[1])
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.0%}"))
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("epoch", color=SOFT, fontsize=9)
    title(axes, "Steering in training: share of each variant")
    end_labels(axes, _stack_labels(rows[-1][1]))
    return figure


def _stack_labels(shares: Sequence[float]) -> list[tuple[float, str, str]]:
    labels, floor = [], 0.0
    for variant, share in zip(VARIANTS, shares, strict=True):
        ink = SOFT if variant == "zero" else VARIANT_COLOURS[variant]
        labels.append((floor + share / 2, f"{variant}  {share:.0%}", ink))
        floor += share
    return labels


def _panels(history: History) -> list[_Panel]:
    names = list(dict.fromkeys(name for row in history for name in row))
    bases = dict.fromkeys(name.partition("/")[2] for name in names if name.startswith(("train/", "val/")))
    known = [name for name in (*LOSSES[:4], "centroid_acc", *LOSSES[4:]) if name in bases]
    both = [base for base in bases if f"train/{base}" in names and f"val/{base}" in names]
    losses = known + [base for base in both if base not in known and f"train/{base}" not in COURSES]
    measures = [match[1] for name in names if (match := RETRIEVAL.fullmatch(name))]
    first = next((name for name in measures if name.startswith("ndcg")), measures[0] if measures else None)
    panels = [_Panel("retrieval", first)] if first else []
    panels += [_Panel("loss", name) for name in losses]
    panels += [_Panel("course", name) for name in COURSES if name in names]
    return [panel for panel in panels if _holds_something(history, panel)]


def _holds_something(history: History, panel: _Panel) -> bool:
    if panel.kind == "retrieval":
        return bool(modes(history, panel.name))
    keys = [panel.name] if panel.kind == "course" else [f"train/{panel.name}", f"val/{panel.name}"]
    return any(series(history, key)[0] for key in keys)


def _shares(row: Mapping[str, Any]) -> list[float] | None:
    """Shares of one epoch in the order of `VARIANTS`, scaled to a sum of 1."""
    found = [
        row.get(f"train/steering_{variant}", row.get(f"train/steering_variant_{number}_frac"))
        for number, variant in enumerate(VARIANTS)
    ]
    shares = [float(share) if is_finite(share) else 0.0 for share in found]
    return [share / sum(shares) for share in shares] if sum(shares) > 0 else None


def _key(figure: Figure) -> None:
    """Train and val, once for all panels, above them."""
    lines = [
        Line2D([], [], color=colour, linewidth=2.2, label=name) for name, colour in (("train", TRAIN), ("val", VAL))
    ]
    figure.legend(
        handles=lines,
        loc="upper left",
        ncols=2,
        frameon=False,
        labelcolor=SOFT,
        fontsize=9,
        borderaxespad=0.6,
        handlelength=1.6,
        columnspacing=1.6,
    )
