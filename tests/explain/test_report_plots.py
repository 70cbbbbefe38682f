from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.explain.report_plots import curve, interval, interval_axis, interval_scale, scale_over

NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=5)


@pytest.mark.slow
@given(NUMBERS)
def test_a_scale_covers_its_values_with_few_even_ticks(values: list[float]) -> None:
    scale = scale_over(values, 0, 100)
    allowed = 1e-6 * max(max(values) - min(values), 0.02 * abs(max(values)), 1e-6)
    assert scale.ticks[0] <= min(values) + allowed
    assert scale.ticks[-1] >= max(values) - allowed
    assert 2 <= len(scale.ticks) <= 7
    steps = [second - first for first, second in pairwise(scale.ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)
    assert len({scale.label(tick) for tick in scale.ticks}) == len(scale.ticks)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.49, 0.74], ["0.4", "0.5", "0.6", "0.7", "0.8"]),
        ([0.551, 0.649], ["0.550", "0.575", "0.600", "0.625", "0.650"]),
        ([0.0], ["0.00", "0.25"]),
        ([2.0], ["2.00", "2.01"]),
        ([-3.0, 5.0], ["−4", "−2", "0", "2", "4", "6"]),  # noqa: RUF001
        ([0.0, 4e-6], ["0", "1e-06", "2e-06", "3e-06", "4e-06"]),
        ([0.0, 9000.0], ["0", "2,500", "5,000", "7,500", "10,000"]),
    ],
)
def test_ticks_are_round(values: list[float], labels: list[str]) -> None:
    scale = scale_over(values, 0, 100)
    assert [scale.label(tick) for tick in scale.ticks] == labels


def test_a_scale_maps_its_ends_to_its_ends() -> None:
    scale = scale_over([0.0, 1.0], 200, 20)
    assert (scale(0.0), scale(0.5), scale(1.0)) == (200.0, 110.0, 20.0)


def test_a_row_has_dot_whisker_and_reference_where_the_scale_says() -> None:
    scale = interval_scale([0.4, 0.6])
    row = ElementTree.fromstring(interval(0.5, 0.45, 0.55, scale=scale, reference=0.42, ours=True))
    dot, whisker, reference = (row.find(f"*[@class='{name}']") for name in ("dot", "whisker", "reference"))
    assert dot is not None
    assert whisker is not None
    assert reference is not None
    assert dot.get("cx") == str(scale(0.5))
    assert re.findall(r"[MH]([\d.]+)", whisker.get("d", "")) == [str(scale(0.45)), str(scale(0.55))]
    assert reference.get("d", "").startswith(f"M{scale(0.42)} ")
    assert row.get("aria-label") == "0.500, 95 % interval 0.450 to 0.550"
    assert row.get("class") == "row ours"


@pytest.mark.parametrize(("low", "high"), [(None, None), (0.4, None), (None, 0.6)])
def test_a_row_without_interval_is_a_dot(low: float | None, high: float | None) -> None:
    row = interval(0.5, low, high, scale=interval_scale([0.5]), reference=None, ours=False)
    assert "whisker" not in row
    assert "reference" not in row
    assert 'aria-label="0.500"' in row


def test_the_axis_names_its_ticks() -> None:
    labels = [text.text for text in ElementTree.fromstring(interval_axis(interval_scale([0.5, 0.6])))]
    assert labels == ["0.50", "0.52", "0.54", "0.56", "0.58", "0.60"]


def test_a_curve_marks_the_earliest_best_epoch() -> None:
    drawn = curve([(0, 0.5), (1, 0.7), (2, 0.7)], name="dev", reference=("alone", 0.55), best="best")
    assert ">best 0.700, epoch 1</text>" in drawn
    assert ">alone 0.550</text>" in drawn
    assert drawn.count("<title>") == 3
    ElementTree.fromstring(drawn)


@pytest.mark.parametrize(("best", "side"), [(0, "start"), (5, "middle"), (10, "end")])
def test_the_label_of_the_best_point_stays_inside(best: int, side: str) -> None:
    points = [(float(epoch), float(epoch == best)) for epoch in range(11)]
    assert f'class="best {side}"' in curve(points, name="dev", best="best")


def test_a_reference_below_the_curve_has_its_label_below_and_at_the_bottom_above() -> None:
    def label_is_below(values: list[float], reference: float) -> bool:
        points = [(float(epoch), value) for epoch, value in enumerate(values)]
        drawn = curve(points, name="dev", reference=("alone", reference))
        line = re.search(r'class="reference" d="M\S+ ([\d.]+)H', drawn)
        label = re.search(r'class="note" x="\S+" y="([\d.]+)"', drawn)
        assert line is not None
        assert label is not None
        return float(label[1]) > float(line[1])

    assert label_is_below([0.5, 0.7], 0.55)
    assert not label_is_below([0.5, 0.5], 0.5)


def test_one_epoch_and_many_epochs_are_drawn() -> None:
    assert curve([(3, 0.5)], name="loss").count("<circle") == 1
    many = curve([(float(epoch), 1.0 / (epoch + 1)) for epoch in range(500)], name="loss")
    assert "<circle" not in many
    assert len(many) < 12_000


def test_names_in_plots_are_escaped() -> None:
    drawn = curve([(0, 0.5)], name='"<i>', reference=("<b>", 0.4), best="<u>")
    assert not {"<i>", "<b>", "<u>"} & set(re.findall(r"<\w>", drawn))
    ElementTree.fromstring(drawn)
