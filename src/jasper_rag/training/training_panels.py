"""Panels of the figures of a training run: a loss, retrieval, or the course of one value. All styles are explicit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

History = Sequence[Mapping[str, Any]]
Series = tuple[list[float], list[float]]
"""Epochs and values."""

PAPER, INK, SOFT, RULE = "#ffffff", "#1d1b18", "#5e5950", "#e4e0d8"
TRAIN, VAL = "#b27312", "#17694f"
VARIANT_COLOURS = {"zero": "#b9b3a7", "centroid": "#17694f", "keyword": "#b27312", "residual": "#3f74ad"}
_MODE_COLOURS = VARIANT_COLOURS | {
    "zero": "#17694f",
    "centroid": "#7a9c3a",
    "predicted": "#3f74ad",
    "oracle": "#8c5a9e",
}
_SPARE_COLOURS = ("#b8475a", "#3a9a9a", "#7d6b57", "#5661b3")

_TITLES = {
    "total": "total loss",
    "jasper": "JASPER: regression to the target",
    "contrastive": "contrastive",
    "centroid": "centroid: cluster cross-entropy",
    "centroid_acc": "accuracy of the cluster",
    "vicreg": "VICReg",
    "vicreg_v": "VICReg: variance",
    "vicreg_i": "VICReg: invariance",
    "vicreg_c": "VICReg: covariance",
}
COURSES = {
    "train/lr": "learning rate",
    "train/tau": "momentum of the EMA target, τ",
    "train/grad_norm": "norm of the gradient",
    "train/ema_distance": "distance of online and target encoder",
    "train/prediction_cosine": "mean cosine of two predictions",
}
RETRIEVAL = re.compile(r"val/(ndcg@\d+|mrr(?:@\d+)?|(?:recall|r)@\d+)(?:_(\w+))?")
_QUESTION = "question"
"""Mode of the plain encoder, the reference."""
_MARKED = 20
"""Up to so many epochs every one gets a dot."""
_DECADES = 50.0
"""Ratio of greatest and smallest value from which a loss is drawn on a logarithmic scale."""
_LABEL_GAP = 0.075
"""Least distance of two labels at line ends, as a share of the panel's height."""


def series(history: History, metric: str) -> Series:
    """Epochs that have a finite value of a metric, and the values."""
    found = [(float(row["epoch"]), float(row[metric])) for row in history if is_finite(row.get(metric))]
    return [epoch for epoch, _ in found], [value for _, value in found]


def is_finite(value: Any) -> bool:
    """Whether a value of a history can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)


def modes(history: History, measure: str) -> dict[str, Series]:
    """Steering mode -> its course; a metric without a mode is that of zero steering."""
    found: dict[str, Series] = {}
    for name in dict.fromkeys(name for row in history for name in row):
        match = RETRIEVAL.fullmatch(name)
        if match and match[1] == measure and (course := series(history, name))[0]:
            found[match[2] or "zero"] = course
    return found


def frame(axes: Axes, history: History) -> None:
    """What all panels have in common; every colour is set, so that no style of the caller's comes through."""
    axes.set_facecolor(PAPER)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=SOFT, labelsize=8.5, length=0, pad=4)
    axes.grid(visible=True, axis="y", color=RULE, linewidth=0.8, linestyle="-")
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    epochs = [float(row["epoch"]) for row in history]
    room = max(0.02 * (max(epochs) - min(epochs)), 0.25)
    axes.set_xlim(min(epochs) - room, max(epochs) + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))


def title(axes: Axes, text: str) -> None:
    """Put a name over the left edge of a panel."""
    axes.set_title(text, loc="left", color=INK, fontsize=10, fontweight="bold", pad=9)


def _line(axes: Axes, course: Series, colour: str, width: float = 1.7) -> None:
    epochs, values = course
    marker = "o" if len(epochs) <= _MARKED else ""
    axes.plot(epochs, values, color=colour, linewidth=width, marker=marker, markersize=2.6, solid_capstyle="round")


def _draw_loss(axes: Axes, history: History, name: str) -> None:
    values: list[float] = []
    for split, colour in (("train", TRAIN), ("val", VAL)):
        course = series(history, f"{split}/{name}")
        _line(axes, course, colour)
        values += course[1]
    if name.endswith("_acc"):
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.0%}"))
        _cover(axes, values, least=0.05)
    elif not _logarithmic(axes, values):
        _cover(axes, values)
    title(axes, _TITLES.get(name, name.replace("_", " ")))


def _draw_course(axes: Axes, history: History, name: str) -> None:
    course = series(history, name)
    _line(axes, course, SOFT)
    if name == "train/lr":
        axes.yaxis.set_major_formatter(FuncFormatter(_rate_label))
        _cover(axes, [0.0, *course[1]])
    elif name == "train/tau":
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.4f}"))
        _cover(axes, course[1], share=0.001)
    elif not _logarithmic(axes, course[1]):
        _cover(axes, course[1])
    title(axes, COURSES[name])


def _draw_retrieval(axes: Axes, history: History, measure: str) -> None:
    labels, values = [], []
    spare = iter(_SPARE_COLOURS)
    for mode, course in modes(history, measure).items():
        last = course[1][-1]
        values += course[1]
        if mode == _QUESTION:
            axes.axhline(last, color=SOFT, linewidth=1.3, linestyle=(0, (4, 3)))
            labels.append((last, f"plain question {_short(last)}", SOFT))
            continue
        colour = _MODE_COLOURS.get(mode) or next(spare, SOFT)
        _line(axes, course, colour, 2.3 if mode == "zero" else 1.5)
        labels.append((last, f"{mode.replace('_', ' ')} {_short(last)}", colour))
        if mode == "zero":
            epoch, best = max(zip(*course, strict=True), key=lambda point: point[1])
            axes.plot(epoch, best, "o", markersize=8, markerfacecolor="none", markeredgecolor=colour)
            # Where losses have their name in a corner, the best has its value.
            note = f"best without steering {_short(best)}, epoch {epoch:.0f}"
            axes.set_title(note, loc="right", color=colour, fontsize=9, pad=9)
    name = measure.replace("ndcg", "nDCG").replace("mrr", "MRR")
    title(axes, f"{name} on val, by steering")
    _cover(axes, values, least=0.02)
    end_labels(axes, labels, in_layout=False)


DRAW: Mapping[str, Callable[[Axes, History, str], None]] = {
    "retrieval": _draw_retrieval,
    "loss": _draw_loss,
    "course": _draw_course,
}


def _short(value: float) -> str:
    """Three decimals without the zero in front, as tables of such metrics have it."""
    return f"{value:.3f}".removeprefix("0")


def _rate_label(value: float, _position: int | None = None) -> str:
    """E.g. 2.5e-4."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"


def _cover(axes: Axes, values: Sequence[float], *, least: float = 0.0, share: float = 0.02) -> None:
    """Vertical limits around `values`, no closer than `least` and than a share of them: less is no movement."""
    low, high = min(values), max(values)
    spread = max(high - low, least, share * abs(high), 1e-12)
    middle, half = (low + high) / 2, 0.56 * spread
    axes.set_ylim(middle - half, middle + half)


def end_labels(axes: Axes, labels: Sequence[tuple[float, str, str]], *, in_layout: bool = True) -> None:
    """Names beside the ends of lines, pushed apart where they would cover each other.

    Args:
        axes: With its final vertical limits.
        labels: (value, text, colour).
        in_layout: Make room for them.
    """
    low, high = axes.get_ylim()
    places = sorted(((value - low) / (high - low), text, colour) for value, text, colour in labels)
    heights = [height for height, _, _ in places]
    for _ in range(200):
        for below in range(len(heights) - 1):
            lack = _LABEL_GAP - (heights[below + 1] - heights[below])
            if lack > 1e-6:
                heights[below] -= lack / 2
                heights[below + 1] += lack / 2
    for height, (_, text, colour) in zip(heights, places, strict=True):
        label = axes.text(1.012, height, text, transform=axes.transAxes, color=colour, fontsize=8.5, va="center")
        label.set_in_layout(in_layout)


def _logarithmic(axes: Axes, values: Sequence[float]) -> bool:
    """Make the vertical axis logarithmic if `values` ask for it; whether they did."""
    if min(values) <= 0 or max(values) / min(values) <= _DECADES:
        return False
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    return True
