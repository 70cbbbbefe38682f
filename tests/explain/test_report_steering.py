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
    figures = {
        mode: {"ndcg@10": 0.5 + row / 100, "recall@10": 0.7, "mrr@10": 0.4} for row, mode in enumerate(STEERING_NAMES)
    }
    return {"topics": 40, "router_accuracy@1": 0.61, "router_accuracy@3": 0.834, "modes": figures}


def test_every_mode_has_a_row(modes: dict[str, Any]) -> None:
    page = steering(data(modes))
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td class="number">(.*?)</td>', page)
    assert [name.replace("&#x27;", "'") for name, _ in rows] == list(STEERING_NAMES.values())
    assert [ndcg for _, ndcg in rows] == ["0.500", "0.510", "0.520", "0.530"]
    assert "40 topics" in page
    assert "61% of the questions" in page
    assert "83%" in page
    assert "upper bound" in page


@pytest.mark.parametrize("metrics", [{}, {"steering_modes": None}])
def test_a_run_without_topics_has_no_section(metrics: dict[str, Any]) -> None:
    assert steering(ReportData(name="run", metrics=metrics)) == ""


def test_what_was_not_measured_is_a_dash(modes: dict[str, Any]) -> None:
    del modes["topics"], modes["router_accuracy@1"], modes["modes"]["oracle"]["mrr@10"], modes["modes"]["zero"]
    page = steering(data(modes))
    assert page.count("<tr>") == 4
    assert page.count("\N{EN DASH}") == 3


@pytest.mark.parametrize("found", [3, {}, {"modes": 3}, {"modes": {"zero": 3}}, {"modes": {"zero": {"ndcg@10": "?"}}}])
def test_something_else_is_refused(found: Any) -> None:
    with pytest.raises(InputError, match="expected a") as caught:
        steering(data(found))
    assert str(caught.value.field).startswith("steering_modes")
