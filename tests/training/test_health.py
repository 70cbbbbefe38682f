from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from jasper_rag.training.health import HealthMonitor, HealthWarning, TrainingDiverged, require_finite


def run(monitor: HealthMonitor, metric: str, values: Iterable[float]) -> list[tuple[int, HealthWarning]]:
    """(epoch, warning) of a run in which one metric takes these values."""
    return [
        (epoch, warning)
        for epoch, value in enumerate(values)
        for warning in monitor.check({"epoch": epoch, metric: value})
    ]


def test_a_healthy_run_is_silent() -> None:
    monitor = HealthMonitor(n_clusters=64)
    for epoch in range(30):
        decay = math.exp(-epoch / 6)
        found = monitor.check(
            {
                "train/total": 1 + decay,
                "train/jasper": 0.001 + 0.01 * decay,
                "train/contrastive": 2 + decay,
                "train/centroid_acc": 0.7 - 0.6 * decay,
                "train/vicreg_v": 0.02 + 0.1 * decay,
                "train/prediction_cosine": 0.2,
                "train/lr": 3e-4 * decay,
                "train/grad_norm": math.inf,
            }
        )
        assert found == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(math.inf)])
def test_a_loss_that_is_not_finite_stops_the_run(value: float) -> None:
    metrics = {"epoch": 3, "train/total": value, "train/vicreg_c": value, "train/jasper": 0.1}
    with pytest.raises(TrainingDiverged, match=r"diverged at epoch 3: train/vicreg_c not finite") as caught:
        HealthMonitor().check(metrics)
    assert caught.value.losses == ("train/vicreg_c",)
    assert "max_grad_norm: 1.0" in caught.value.remedy
    assert caught.value.__notes__ == [caught.value.remedy]


def test_the_total_is_named_where_its_parts_are_finite() -> None:
    with pytest.raises(TrainingDiverged) as caught:
        require_finite({"total": math.inf, "jasper": 1.0}, "step 1,200")
    assert (caught.value.losses, caught.value.place) == (("total",), "step 1,200")


def test_what_is_no_loss_may_be_infinite() -> None:
    require_finite({"train/grad_norm": math.inf, "val/ndcg@10": math.nan, "jasper": None, "lr": 1.0}, "step 1")


@pytest.mark.parametrize("metric", ["train/vicreg_v", "val/vicreg_v"])
def test_a_collapse_shows_in_the_variance(metric: str) -> None:
    (found,) = run(HealthMonitor(), metric, [0.05, 0.04, 0.2, 0.4, 0.8, 0.99])
    assert (found[0], found[1].signal, found[1].metric, found[1].value) == (3, "collapse", metric, 0.4)
    assert "0.4, up from 0.04" in found[1].message
    assert "lambda_vicreg (0.1 -> 0.5)" in found[1].remedy
    assert str(found[1]) == f"{found[1].message}\n  {found[1].remedy}"


def test_a_collapse_from_the_start_is_seen() -> None:
    ((epoch, _),) = run(HealthMonitor(), "train/vicreg_v", [0.95, 0.96])
    assert epoch == 0


def test_predictions_of_one_direction_are_seen() -> None:
    (found,) = run(HealthMonitor(), "train/prediction_cosine", [0.3, 0.9, 0.995, 1.0])
    assert (found[0], found[1].signal) == (2, "collapse")


def test_the_variance_of_unscaled_unit_vectors_says_nothing() -> None:
    assert run(HealthMonitor(variance_scaled=False), "train/vicreg_v", [0.2, 0.95, 0.96]) == []
    assert run(HealthMonitor(variance_scaled=False), "train/vicreg_v", [0.95, 1.2])[0][0] == 1


def test_the_two_signs_of_collapse_agree() -> None:
    # Unit vectors of mean cosine c, scaled by sqrt(D), have a deviation of sqrt(1 - c) in each coordinate.
    generator = torch.Generator().manual_seed(0)
    dimension = 256
    common = torch.nn.functional.normalize(torch.randn(dimension, generator=generator), dim=0)
    noise = torch.nn.functional.normalize(torch.randn(512, dimension, generator=generator), dim=1)
    vectors = torch.nn.functional.normalize(math.sqrt(0.99) * common + math.sqrt(0.01) * noise, dim=1)
    cosine = (vectors.sum(0).square().sum() - 512) / (512 * 511)
    variance = torch.relu(1 - (math.sqrt(dimension) * vectors).std(0)).mean()
    assert cosine.item() == pytest.approx(0.99, abs=0.001)
    assert variance.item() == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize(
    ("clusters", "accuracy", "warned"),
    [(64, 1 / 64, True), (64, 0.05, False), (2, 0.5, True), (2, 0.6, False), (1, 1.0, False), (None, 0.0, True)],
)
def test_routing_by_chance(clusters: int | None, accuracy: float, warned: bool) -> None:
    found = run(HealthMonitor(clusters), "train/centroid_acc", [accuracy] * 4)
    assert [(epoch, warning.signal) for epoch, warning in found] == ([(2, "uniform_routing")] if warned else [])
    assert all("lambda_centroid" in warning.remedy for _, warning in found)


def test_routing_that_gets_better_is_not_reported() -> None:
    assert run(HealthMonitor(64), "train/centroid_acc", [0.015, 0.02, 0.2, 0.3]) == []


def test_a_flat_regression() -> None:
    ((epoch, warning),) = run(HealthMonitor(), "train/jasper", [0.5] * 8)
    assert (epoch, warning.signal, warning.remedy) == (5, "flat_jasper", "Reduce learning_rate.")


def test_a_regression_may_be_flat_where_the_learning_rate_has_gone_down() -> None:
    monitor = HealthMonitor()
    assert [monitor.check({"train/jasper": 0.5, "train/lr": 1e-3 * 0.3**epoch}) for epoch in range(8)] == [[]] * 8


def test_a_rising_regression() -> None:
    ((epoch, warning),) = run(HealthMonitor(), "train/jasper", [0.1 * 1.1**epoch for epoch in range(7)])
    assert (epoch, warning.signal) == (5, "rising_jasper")
    assert "Halve learning_rate" in warning.remedy


def test_a_regression_may_rise_where_the_total_falls() -> None:
    monitor = HealthMonitor()
    rows = [{"train/jasper": 0.1 * 1.1**epoch, "train/total": 3 - 0.1 * epoch} for epoch in range(8)]
    assert [monitor.check(row) for row in rows] == [[]] * 8


def test_a_regression_of_zero() -> None:
    assert run(HealthMonitor(), "train/jasper", [0.0] * 8) == []


def test_an_oscillating_contrastive_loss() -> None:
    ((epoch, warning),) = run(HealthMonitor(), "train/contrastive", [2.0, 2.5] * 4)
    assert (epoch, warning.signal) == (5, "oscillating_contrastive")
    assert "contrastive_temperature" in warning.remedy
    assert run(HealthMonitor(), "train/contrastive", [2.0, 2.01] * 4) == []


def test_a_jump_of_the_contrastive_loss() -> None:
    ((epoch, warning),) = run(HealthMonitor(), "train/contrastive", [2.0, 1.9, 1.8, 4.0, 1.7])
    assert (epoch, warning.signal) == (3, "contrastive_spike")


def test_a_signal_is_reported_again_only_after_it_ended() -> None:
    monitor = HealthMonitor()
    found = run(monitor, "train/prediction_cosine", [1.0, 1.0, 0.5, 0.5, 1.0])
    assert [epoch for epoch, _ in found] == [0, 4]
    assert monitor.active == {"collapse"}


def test_a_restored_monitor_goes_on_as_an_uninterrupted_one() -> None:
    rows = [{"epoch": epoch, "train/contrastive": value} for epoch, value in enumerate([2.0, 2.5] * 4)]
    whole, restored = HealthMonitor(), HealthMonitor()
    expected = [whole.check(row) for row in rows]
    restored.check({"train/contrastive": 9.0})
    restored.restore(rows[:4])
    assert [restored.check(row) for row in rows[4:]] == expected[4:]
    assert restored.active == whole.active
