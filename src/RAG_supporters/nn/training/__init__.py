"""Re-exports of `jasper_rag.training`."""

from __future__ import annotations

from jasper_rag.training.jasper_trainer import JASPERTrainer as JASPERTrainer
from jasper_rag.training.jasper_trainer import JEPATrainer as JEPATrainer
from jasper_rag.training.jasper_trainer_config import JASPERTrainerConfig as JASPERTrainerConfig
from jasper_rag.training.monitoring import TrainingMonitor as TrainingMonitor
