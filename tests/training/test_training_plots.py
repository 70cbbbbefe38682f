from __future__ import annotations

import io
import math
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from jasper_rag.dataset_layout import VARIANTS
from jasper_rag.training.training_panels import TRAIN, VAL
from jasper_rag.training.training_plots import loss_figure, steering_figure


def history(epochs: int, only: str = "") -> list[dict[str, Any]]:
    """Rows of a run; `only` leaves the metrics that have it in their name."""
    rows = []
    for epoch in range(epochs):
        decay = math.exp(-epoch / 5)
        row = {"epoch": epoch, "train/lr": 3e-4 * decay, "train/tau": 0.996, "train/grad_norm": 100 * decay**3}
        for name in ("total", "jasper", "contrastive", "vicreg", "vicreg_v"):
            row |= {f"train/{name}": 1 + decay, f"val/{name}": 1.1 + decay}
        row |= {"train/centroid_acc": 0.7 - 0.5 * decay, "train/vicreg_i": decay**4, "val/vicreg_i": decay**4}
        row |= {"val/ndcg@10": 0.5 - 0.02 * decay, "val/ndcg@10_question": 0.47, "val/ndcg@10_one_click": 0.52}
        row |= {"val/recall@10": 0.7, "epoch_time_s": 1.5}
        rows.append({name: value for name, value in row.items() if name == "epoch" or only in name})
    return rows


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def drawn(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), format="png", dpi=30)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 60])
def test_a_panel_for_each_thing_measured(epochs: int) -> None:
    figure = loss_figure(history(epochs))
    assert figure is not None
    assert titles(figure) == [
        "nDCG@10 on val, by steering",
        "total loss",
        "JASPER: regression to the target",
        "contrastive",
        "accuracy of the cluster",
        "VICReg",
        "VICReg: variance",
        "VICReg: invariance",
        "learning rate",
        "momentum of the EMA target, τ",
        "norm of the gradient",
    ]


def test_lines_hold_the_values() -> None:
    rows = history(5, "total")
    figure = loss_figure(rows)
    assert figure is not None
    panel = next(axes for axes in figure.axes if axes.get_title(loc="left") == "total loss")
    train, val = panel.get_lines()
    assert (to_hex(str(train.get_color())), to_hex(str(val.get_color()))) == (TRAIN, VAL)
    assert points(train) == [(row["epoch"], row["train/total"]) for row in rows]
    assert points(val) == [(row["epoch"], row["val/total"]) for row in rows]


@pytest.mark.slow
def test_every_kind_of_panel_can_be_drawn() -> None:
    kept = {"epoch", "val/ndcg@10", "train/vicreg_i", "train/centroid_acc", "train/lr", "train/tau"}
    figure = loss_figure([{name: row[name] for name in kept} for row in history(25)])
    assert figure is not None
    drawn(figure)


def test_retrieval_shows_every_mode_the_question_dashed_and_the_best() -> None:
    rows = history(8, "ndcg")
    rows[5]["val/ndcg@10"] = 0.6
    figure = loss_figure(rows)
    assert figure is not None
    panel = next(axes for axes in figure.axes if "nDCG" in axes.get_title(loc="left"))
    names = {text.get_text() for text in panel.texts}
    assert names == {f"zero .{1000 * rows[-1]['val/ndcg@10']:.0f}", "plain question .470", "one click .520"}
    assert panel.get_title(loc="right") == "best without steering .600, epoch 5"
    dashed = [line for line in panel.get_lines() if line.get_linestyle() == "--"]
    assert [[y for _, y in points(line)] for line in dashed] == [[0.47, 0.47]]


@pytest.mark.slow
def test_names_at_line_ends_do_not_cover_each_other() -> None:
    rows = history(3, "ndcg")
    for row in rows:
        row |= {f"val/ndcg@10_{mode}": 0.5 for mode in ("oracle", "predicted", "centroid", "keyword", "residual")}
    figure = loss_figure(rows)
    assert figure is not None
    panel = next(axes for axes in figure.axes if "nDCG" in axes.get_title(loc="left"))
    heights = sorted(float(text.get_position()[1]) for text in panel.texts)
    assert len(heights) == 8
    assert min(after - before for before, after in pairwise(heights)) > 0.06


@pytest.mark.parametrize(
    ("metric", "scale"), [("train/vicreg_i", "log"), ("train/grad_norm", "log"), ("train/contrastive", "linear")]
)
def test_losses_over_decades_are_on_a_logarithmic_axis(metric: str, scale: str) -> None:
    figure = loss_figure(history(10, metric))
    assert figure is not None
    assert [axes.get_yscale() for axes in figure.axes] == [scale]


@pytest.mark.slow
def test_without_ndcg_another_measure_is_shown_and_unknown_losses_get_a_panel() -> None:
    rows = [{"epoch": 0, "val/mrr": 0.5, "train/my_loss": 1.0, "val/my_loss": 2.0, "train/odd": 3.0}]
    figure = loss_figure(rows)
    assert figure is not None
    assert titles(figure) == ["MRR on val, by steering", "my loss"]


@pytest.mark.slow
def test_values_that_are_missing_or_not_finite_are_gaps() -> None:
    rows: list[dict[str, Any]] = [
        {"epoch": 0, "train/total": 1.0, "train/jasper": None},
        {"epoch": 1, "train/total": math.nan},
        {"epoch": 2, "train/total": 3.0},
    ]
    figure = loss_figure(rows)
    assert figure is not None
    drawn(figure)
    assert titles(figure) == ["total loss"]
    assert points(figure.axes[0].get_lines()[0]) == [(0, 1), (2, 3)]


@pytest.mark.parametrize("rows", [[], [{"epoch": 0}], [{"epoch": 0, "train/total": math.nan, "note": "x"}]])
def test_nothing_to_draw(rows: list[dict[str, Any]]) -> None:
    assert loss_figure(rows) is None
    assert steering_figure(rows) is None


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 7, 60])
@pytest.mark.parametrize("original", [False, True])
def test_shares_of_steering(epochs: int, original: bool) -> None:
    shares = (0.4, 0.3, 0.2, 0.1)
    named = [f"train/steering_variant_{n}_frac" if original else f"train/steering_{v}" for n, v in enumerate(VARIANTS)]
    rows = [{"epoch": epoch, **dict(zip(named, shares, strict=True))} for epoch in range(epochs)]
    figure = steering_figure(rows)
    assert figure is not None
    if epochs != 7:
        drawn(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["zero  40%", "centroid  30%", "keyword  20%", "residual  10%"]
    assert len(figure.axes[0].patches) == (4 * epochs if epochs < 50 else 0)


def test_stacks_reach_one_whole_and_missing_variants_are_none() -> None:
    figure = steering_figure([{"epoch": 0}, {"epoch": 1, "train/steering_zero": 0.5, "train/steering_residual": 0.3}])
    assert figure is not None
    bars = [bar.get_bbox() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]
    assert [(round(bar.y0, 3), round(bar.y1, 3)) for bar in bars] == [
        (0, 0.625),
        (0.625,) * 2,
        (0.625,) * 2,
        (0.625, 1),
    ]


@pytest.mark.slow
def test_the_global_state_stays_and_does_not_come_through() -> None:
    with mpl.rc_context({"axes.facecolor": "black", "axes.grid": True, "text.color": "red", "axes.spines.top": True}):
        before = dict(mpl.rcParams)
        figure = loss_figure([{"epoch": 0, "train/total": 1.0, "val/ndcg@10": 0.5}])
        assert figure is not None
        drawn(figure)
        assert dict(mpl.rcParams) == before
    assert {to_hex(axes.get_facecolor()) for axes in figure.axes if axes.axison} == {"#ffffff"}
