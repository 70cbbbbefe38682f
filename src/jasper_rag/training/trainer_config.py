"""Settings of the trainer's loop; free of torch."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Schedule = Literal["cosine", "ramp", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

_RAMP = 30.0
"""Factor between the first and the last learning rate of a ramp, where none is given."""

_QUALITY = re.compile(r"(ndcg|recall|precision|mrr|map|hit|success|r)(@\d+)?(_\w+)?|\w+_acc(@\d+)?(_\w+)?")


class TrainingConfig(BaseModel):
    """The section `training:`. The first twelve keys are documented ones; the others have defaults that fit them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    batch_size: int = Field(64, gt=0, description="Pairs per step, on each process.")
    num_epochs: int = Field(50, gt=0, description="Passes over the train split.")
    warmup_epochs: float = Field(2, ge=0, description="Epochs, or parts of one, of linearly growing learning rate.")
    learning_rate: float = Field(3e-4, gt=0, description="AdamW learning rate: the peak, or the end of a ramp.")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay.")
    num_workers: int = Field(4, ge=0, description="Processes that load batches; 0: none, the loop does it.")
    pin_memory: bool = Field(True, description="Page-locked batches, for faster copies to a GPU.")
    max_grad_norm: float = Field(1.0, ge=0, description="Longest gradient, longer ones are scaled; 0: no clipping.")
    mixed_precision: bool = Field(False, description="Compute in half precision on a GPU; weights stay float32.")
    save_every_n_epochs: int = Field(5, ge=0, description="Epochs between periodic checkpoints; 0: none.")
    keep_last_n_checkpoints: int = Field(3, ge=1, description="Periodic checkpoints kept; best and final always are.")
    log_every_n_steps: int = Field(50, gt=0, description="Steps between reads of the losses from the device.")

    seed: int = Field(0, ge=0, lt=2**63, description="Same seed, same numbers on a CPU with as many threads.")
    device: str | None = Field(
        None, pattern=r"^(cpu|cuda(:\d+)?|mps)$", description="cpu, cuda, cuda:N or mps; null: a GPU if there is one."
    )
    schedule: Schedule = Field(
        "cosine", description="Of the learning rate: warm-up then cosine, geometric ramp, or warm-up then constant."
    )
    final_learning_rate_factor: float = Field(
        0.01, ge=0, le=1, description="Cosine only: last learning rate, as a share of the peak."
    )
    learning_rate_start: float | None = Field(
        None, gt=0, description="Ramp only: the first learning rate; null: a thirtieth of `learning_rate`."
    )
    precision: Precision = Field(
        "auto", description="Of mixed precision; auto: bf16 where the device has it, else fp16."
    )
    compile: bool = Field(False, description="torch.compile the predictor.")
    gradient_accumulation_steps: int = Field(1, gt=0, description="Batches whose gradients make up one step.")
    best_metric: str = Field(
        "val/ndcg@10",
        pattern=r"^val/\S+$",
        description="Metric that chooses best.pt and stops early, e.g. val/ndcg@10 or val/total.",
    )
    early_stopping_patience: int | None = Field(
        None, gt=0, description="Stop after so many validations without a better one; null: never."
    )
    validate_every_n_epochs: int = Field(1, ge=0, description="Epochs between validations; 0: only after steps.")
    validate_every_n_steps: int | None = Field(
        None, gt=0, description="Steps between further validations, within an epoch; null: none."
    )
    max_steps: int | None = Field(None, gt=0, description="Most optimiser steps of the run; null: no limit.")
    reload_negatives_every_n_epochs: int = Field(
        10, ge=0, description="Epochs between looks for newly mined hard negatives; 0: never."
    )
    balanced_batches: bool = Field(False, description="Draw batches in which every cluster is about equally frequent.")

    @model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if self.learning_rate_start is not None:
            if self.schedule != "ramp":
                raise ValueError(f"learning_rate_start is for schedule: ramp, but schedule is {self.schedule}")
            if self.learning_rate_start > self.learning_rate:
                raise ValueError(
                    f"learning_rate_start {self.learning_rate_start:g} must not be above "
                    f"learning_rate {self.learning_rate:g}, where the ramp ends"
                )
        if self.precision in ("bf16", "fp16") and not self.mixed_precision:
            raise ValueError(f"precision: {self.precision} needs mixed_precision: true")
        if self.precision == "fp32" and self.mixed_precision:
            raise ValueError("precision: fp32 and mixed_precision: true contradict each other")
        return self

    @property
    def ramp_start(self) -> float:
        """First learning rate of a ramp."""
        return self.learning_rate / _RAMP if self.learning_rate_start is None else self.learning_rate_start


def higher_is_better(metric: str) -> bool:
    """Whether a metric, e.g. "val/ndcg@10_oracle", is a quality; all others are losses."""
    return _QUALITY.fullmatch(metric.rpartition("/")[2]) is not None
