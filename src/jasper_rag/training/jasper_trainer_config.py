"""Settings of `JASPERTrainer`: the loop's, and where checkpoints go; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from jasper_rag.training.trainer_config import TrainingConfig


class JASPERTrainerConfig(TrainingConfig):
    """The section `training:` of a run, and the folder of its checkpoints."""

    save_every_n_epochs: int = Field(1, ge=0, description="Epochs between periodic checkpoints; 0: none.")
    keep_last_n_checkpoints: int = Field(5, ge=1, description="Periodic checkpoints kept; best and final always are.")
    checkpoint_dir: str | None = Field("checkpoints", description="Folder of checkpoints; null: none are written.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From plain values; an unknown key is refused.

        Raises:
            ValueError: A key is unknown or a value not allowed.
        """
        return cls.model_validate(dict(values))
