"""Every setting of a JASPER training run, in one place that imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jasper_rag.losses.loss_config import LossConfig
from jasper_rag.models.ema_config import EMAConfig
from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.training.config_loading import load_sections, resolved
from jasper_rag.training.steering_config import SteeringConfig
from jasper_rag.training.trainer_config import TrainingConfig

ALIASES = {
    "loss.lambda_jepa": "loss.lambda_jasper",
    "loss.jepa_beta": "loss.jasper_beta",
    "training.lr": "training.learning_rate",
    "training.epochs": "training.num_epochs",
}
"""Other spellings of keys -> the keys."""


class RunDatasetConfig(BaseModel):
    """The section `dataset:`: what is trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = Field(None, min_length=1, description="Dataset directory; null: given on the command line.")
    split_train: str = Field("train", min_length=1, description="Split that is trained on.")
    split_val: str = Field("val", min_length=1, description="Split that decides what is best.")
    n_neg: int | None = Field(8, gt=0, description="Hard negatives of a pair, as the dataset has them; null: its own.")


class MonitoringConfig(BaseModel):
    """The section `monitoring:`: where metrics go beside the run directory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use_wandb: bool = Field(False, description="Send metrics and plots to Weights & Biases.")
    wandb_project: str = Field("jasper-rag", min_length=1, description="Its project.")
    wandb_name: str | None = Field(None, min_length=1, description="Name of the run there; null: it makes one up.")


class RunConfig(BaseModel):
    """All settings of a run; `ALIASES` are understood, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: JASPERPredictorConfig = Field(default_factory=JASPERPredictorConfig, description="The predictor.")
    ema: EMAConfig = Field(default_factory=EMAConfig, description="The target of the regression.")
    loss: LossConfig = Field(default_factory=LossConfig, description="The objectives and their weights.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The loop.")
    dataset: RunDatasetConfig = Field(default_factory=RunDatasetConfig, description="What is trained on.")
    monitoring: MonitoringConfig = Field(default_factory=MonitoringConfig, description="Where metrics go.")
    steering: SteeringConfig = Field(default_factory=SteeringConfig, description="How training is steered.")

    @model_validator(mode="before")
    @classmethod
    def _resolve_aliases(cls, values: Any) -> Any:
        return resolved(values, ALIASES) if isinstance(values, Mapping) else values

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values, as JSON, YAML and a checkpoint take them; `RunConfig(**it)` is this again."""
        return self.model_dump(mode="json")


def load_run_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The settings of a run: defaults, overlaid by a YAML file, overlaid by `overrides`.

    Args:
        path: YAML file, e.g. configs/jasper_base.yaml; None for defaults only.
        overrides: "section.key" -> value, e.g. {"training.num_epochs": 3}; None values are skipped.

    Raises:
        InputError: The file cannot be read, or holds an unknown key or a value that is not allowed: file, key, what
            was given, what is allowed and the nearest known key are named.
    """
    return load_sections(RunConfig, path, overrides, ALIASES)
