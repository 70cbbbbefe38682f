from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jasper_rag.training.epoch_report import EpochReport
from jasper_rag.training.health import HealthMonitor, TrainingDiverged
from jasper_rag.training.monitoring import TrainingMonitor

COLLAPSED = {"epoch": 0, "step": 5, "train/prediction_cosine": 0.999, "train/total": 1.0, "epoch_time_s": 0.1}


def test_a_warning_is_said_once_with_its_remedy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monitor = TrainingMonitor(tmp_path)
    report = EpochReport(HealthMonitor(), monitor)
    with caplog.at_level(logging.INFO, "jasper_rag"):
        for epoch in range(3):
            report(epoch, COLLAPSED | {"epoch": epoch, "step": 5 * (epoch + 1)})
    assert caplog.text.count("Predictions collapse") == 1
    assert "Raise lambda_vicreg" in caplog.text
    assert "epoch 2: loss 1.0000" in caplog.text
    assert monitor.num_epochs_logged == 3
    # Nor again after a resume.
    caplog.clear()
    resumed = TrainingMonitor(tmp_path)
    again = EpochReport(HealthMonitor(), resumed)
    again.restore([*monitor.history, {"epoch": 2.5, "step": 17}])
    with caplog.at_level(logging.INFO, "jasper_rag"):
        again(3, COLLAPSED | {"epoch": 3, "step": 20})
    assert "collapse" not in caplog.text
    assert [row["epoch"] for row in resumed.history] == [0, 1, 2, 3]


def test_every_process_stops_but_only_the_first_one_speaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jasper_rag.training.epoch_report.is_first", lambda: False)
    report = EpochReport(HealthMonitor(), TrainingMonitor(tmp_path))
    with caplog.at_level(logging.INFO, "jasper_rag"):
        report(0, COLLAPSED)
        report.restore([COLLAPSED])
    assert caplog.text == ""
    assert not list(tmp_path.iterdir())
    with pytest.raises(TrainingDiverged, match="epoch 1: val/jasper"):
        report(1, {"epoch": 1, "val/jasper": float("nan")})
