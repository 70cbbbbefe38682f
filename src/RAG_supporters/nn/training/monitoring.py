"""Re-exports of `jasper_rag.training.monitoring`."""

from __future__ import annotations

from jasper_rag.training.monitoring import TrainingMonitor as TrainingMonitor
