from __future__ import annotations

import re
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.evaluation.systems import STEERING_NAMES
from jasper_rag.explain.report_data import ReportData
from jasper_rag.explain.report_steering import steering


def data(found: Any) -> ReportData:
    return ReportData(name="run", metrics={"steering_modes": found})


@pytest.fixture
def modes() -> dict[str, Any]:
    def figures(best: float) -> dict[str, dict[str, float]]:
        return {
            mode: {"ndcg@10": best + row / 100, "recall@10": 0.7, "mrr@10": 0.4}
            for row, mode in enumerate(STEERING_NAMES)
        }

    accuracies = {"router_accuracy@1": 0.61, "router_accuracy@3": 0.834, "router_ece": 0.047}
    nearest = {"nearest_centroid_accuracy@1": 0.4, "nearest_centroid_accuracy@3": 0.59}
    return {"topics": 40, **accuracies, **nearest, "search": figures(0.6), "modes": figures(0.5)}


def test_every_mode_has_a_row_in_both_tables(modes: dict[str, Any]) -> None:
    page = steering(data(modes))
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td class="number">(.*?)</td>', page)
    assert [name.replace("&#x27;", "'") for name, _ in rows] == list(STEERING_NAMES.values()) * 2
    assert [ndcg for _, ndcg in rows] == ["0.600", "0.610", "0.620", "0.630", "0.500", "0.510", "0.520", "0.530"]
    captions = re.findall("<caption>(.*?)</caption>", page)
    assert [caption.split()[1] for caption in captions] == ["search", "prediction"]
    legend = " ".join(page.split("</p>")[0].split())
    assert "40 topics" in legend
    assert "right one for 61% of the questions, one of its first three for 83%" in legend
    assert "nearest centroid would be for 40% and 59%" in legend
    assert "off by 5% on average" in legend
    assert "upper bound" in legend


@pytest.mark.parametrize("metrics", [{}, {"steering_modes": None}])
def test_a_run_without_topics_has_no_section(metrics: dict[str, Any]) -> None:
    assert steering(ReportData(name="run", metrics=metrics)) == ""


def test_what_was_not_measured_is_a_dash(modes: dict[str, Any]) -> None:
    del modes["topics"], modes["router_accuracy@1"], modes["modes"]["oracle"]["mrr@10"], modes["modes"]["zero"]
    page = steering(data(modes))
    assert page.count("<tr>") == 9  # two heads, four rows and three
    assert page.count("\N{EN DASH}") == 3


@pytest.mark.parametrize(
    "found",
    [
        3,
        {},
        {"modes": {}},
        {"search": {}},
        {"search": {}, "modes": 3},
        {"search": 3, "modes": {}},
        {"search": {"zero": 3}, "modes": {}},
        {"search": {}, "modes": {"zero": {"ndcg@10": "?"}}},
    ],
)
def test_something_else_is_refused(found: Any) -> None:
    with pytest.raises(InputError, match="expected a") as caught:
        steering(data(found))
    assert str(caught.value.field).startswith("steering_modes")
