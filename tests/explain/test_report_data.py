from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.evaluation.systems import SYSTEM_NAMES
from jasper_rag.explain.report_data import finite_number, system_results


def test_rows_come_in_table_order_and_unknown_ones_last() -> None:
    keys = ["mine", "hybrid", "other", "bm25", "plain"]
    rows = system_results({"systems": {key: {"ndcg@10": 0.5} for key in keys}})
    assert [row.key for row in rows] == ["plain", "bm25", "hybrid", "mine", "other"]
    assert [row.name for row in rows] == [SYSTEM_NAMES[key] for key in ("plain", "bm25", "hybrid")] + ["mine", "other"]


def test_every_metric_of_a_system_is_read() -> None:
    metrics = {
        "ndcg@10": 0.5,
        "recall@10": 0.6,
        "mrr@10": 0.4,
        "train_seconds": 3,
        "ndcg@10_low": 0.45,
        "ndcg@10_high": 0.55,
        "p_value": None,
        "run_file": "runs/plain.trec",
    }
    (row,) = system_results({"systems": {"plain": metrics}})
    assert (row.ndcg, row.low, row.high, row.recall, row.mrr) == (0.5, 0.45, 0.55, 0.6, 0.4)
    assert (row.p_value, row.train_seconds) == (None, 3.0)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), np.float32("nan")])
def test_no_number_is_none(value: Any) -> None:
    assert finite_number({"key": value}, "key") is None
    assert finite_number({}, "key") is None


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1)])
def test_numbers_become_floats(value: Any) -> None:
    assert type(finite_number({"key": value}, "key")) is float


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({}, r"\[systems\]: the metrics have no systems"),
        ({"systems": {}}, r"\[systems\]: the metrics have no systems"),
        ({"systems": [1]}, r"\[systems\]: the metrics have no systems"),
        ({"systems": {"plain": 0.5}}, r"\[systems.plain\]: expected a mapping of metrics, got 0.5"),
        ({"systems": {"plain": {}}}, r"\[systems.plain.ndcg@10\]: a system needs a finite nDCG@10"),
        ({"systems": {"plain": {"ndcg@10": float("nan")}}}, r"needs a finite nDCG@10"),
        ({"systems": {"plain": {"ndcg@10": "0.5"}}}, r"\[systems.plain.ndcg@10\]: expected a number, got '0.5'"),
        ({"systems": {"plain": {"ndcg@10": True}}}, r"expected a number, got True"),
        ({"systems": {"plain": {"ndcg@10": 0.5, "p_value": [1]}}}, r"\[systems.plain.p_value\]: expected a number"),
    ],
)
def test_bad_metrics_are_named(metrics: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        system_results(metrics)
    assert "metrics.json" in error.value.remedy


@pytest.mark.slow
def test_a_report_needs_nothing_heavy() -> None:
    code = "import sys, jasper_rag.explain.report as r; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
