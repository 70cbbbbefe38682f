"""Settings of training a Gaussian encoder; free of torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LossKind = Literal["auto", "infonce", "margin"]
IsotropyName = Literal["closed", "sliced", "covariance"]

LEARNING_RATE = 2e-5
"""Of all that is trained, where nothing else is given."""
HEAD_LEARNING_RATE = 5e-4
"""Of the head over a frozen base, where no rate is given."""
BATCH_SIZE = 8
FROZEN_BATCH_SIZE = 512
"""Over a frozen base, whose vectors are computed once: a large batch costs little and has many negatives."""
OUTPUT_DIM = 512
JUDGED_ROWS = 1024
"""Embeddings per side below which the isotropy terms see the mean and the scale, hardly the spectrum."""
MARGIN = 1.0


class EncoderTrainingConfig(BaseModel):
    """All of a run. What is None follows from the rest; see `resolved`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    train_data: str = Field("data/processed/train.json", description="Pairs to train on.")
    val_data: str | None = Field(None, description="Pairs that choose the best model; null: the last one is taken.")
    output_dir: str = Field("checkpoints", description="Folder of the checkpoints.")
    model_path: str | None = Field(None, description="Checkpoint to train on from.")

    output_dim: int | None = Field(None, ge=1, description="Width of an embedding; null: 512, or the checkpoint's.")
    base_model: str | None = Field(None, description="Name or folder; null: $JASPER_BASE_MODEL, else EmbeddingGemma.")
    freeze_base: bool = Field(False, description="Train the head alone; the base's vectors are computed once.")
    freeze_early_layers: bool = Field(False, description="Freeze the base's first 4 layers.")
    normalize_embeddings: bool = Field(True, description="The head sees unit vectors.")
    use_predictor: bool = Field(False, description="Predict from a query where its document lies; used in search too.")
    stopgrad: bool = Field(True, description="The predictive term does not move the documents.")
    max_seq_length: int | None = Field(None, ge=3, description="Tokens read of a text; null: the base's limit.")

    epochs: int = Field(3, ge=1, description="Passes over the pairs.")
    batch_size: int | None = Field(
        None, ge=1, description="Pairs per forward pass and process; null: 8, or 512 over a frozen base."
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="Batches per optimiser step; all of them are each other's negatives."
    )
    learning_rate: float | None = Field(None, gt=0, description="AdamW; null: 2e-5, or 5e-4 over a frozen base.")
    base_learning_rate: float | None = Field(None, gt=0, description="Of the base; null: `learning_rate`.")
    projection_learning_rate: float | None = Field(
        None, gt=0, description="Of head and predictor; null: `learning_rate`."
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")
    warmup_steps: int = Field(100, ge=0, description="Optimiser steps of growing rate; at most a tenth of a short run.")
    max_grad_norm: float = Field(1.0, ge=0, description="Longer gradients are scaled to this; 0: never.")

    lambda_contrastive: float = Field(1.0, ge=0, description="Weight of the contrastive term.")
    lambda_isotropy: float = Field(0.005, ge=0, description="Weight of the isotropy term.")
    lambda_reg: float = Field(0.1, ge=0, description="Weight of (std - 1)^2.")
    lambda_predictive: float = Field(0.0, ge=0, description="Weight of the predictive term; needs `use_predictor`.")
    loss: LossKind = Field("auto", description="infonce or margin; auto: margin where a margin is given, else infonce.")
    margin: float | None = Field(None, ge=0, description="Of the margin loss; null: 1.0.")
    temperature: float = Field(0.05, ge=1e-4, description="Of InfoNCE.")
    isotropy: IsotropyName = Field("closed", description="SIGReg in closed form or over slices, or covariance.")
    queue_size: int | None = Field(
        None, ge=0, description="Earlier embeddings that isotropy is judged with; null: up to 1,024 with the batch's."
    )

    mixed_precision: bool = Field(False, description="bfloat16 on a GPU that has it, else float16; float32 on a CPU.")
    gradient_checkpointing: bool = Field(False, description="Less memory, more time: activations are made again.")
    save_interval: int = Field(1, ge=1, description="Epochs between checkpoints.")
    log_interval: int = Field(10, ge=1, description="Optimiser steps between figures in the log.")
    device: str | None = Field(
        None, pattern=r"^(cpu|cuda(:\d+)?|mps)$", description="cpu, cuda, cuda:N or mps; null: a GPU if there is one."
    )
    seed: int = Field(42, ge=0, lt=2**63, description="Same seed, same numbers on a CPU with as many threads.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lambda_predictive and not self.use_predictor:
            raise ValueError("lambda_predictive needs a predictor: add --use_predictor")
        if not (self.lambda_contrastive or self.lambda_isotropy or self.lambda_reg or self.lambda_predictive):
            raise ValueError("all weights of the loss are 0: there is nothing to learn")
        return self

    def resolved(self) -> EncoderTrainingConfig:
        """The same with all that follows from the rest filled in; `output_dim` only where nothing is trained on."""
        frozen = self.freeze_base
        rate = self.learning_rate or (HEAD_LEARNING_RATE if frozen else LEARNING_RATE)
        kind = self.loss if self.loss != "auto" else "infonce" if self.margin is None else "margin"
        batch = self.batch_size or (FROZEN_BATCH_SIZE if frozen else BATCH_SIZE)
        queue = max(0, JUDGED_ROWS - batch * self.gradient_accumulation_steps)
        found: dict[str, Any] = {
            "batch_size": batch,
            "queue_size": queue if self.queue_size is None else self.queue_size,
            "learning_rate": rate,
            "base_learning_rate": self.base_learning_rate or rate,
            "projection_learning_rate": self.projection_learning_rate or rate,
            "loss": kind,
            "margin": MARGIN if self.margin is None else self.margin,
        }
        if self.output_dim is None and self.model_path is None:
            found["output_dim"] = OUTPUT_DIM
        return self.model_copy(update=found)

    def warmup(self, steps: int) -> int:
        """Optimiser steps of warm-up in a run of `steps`."""
        return self.warmup_steps if self.warmup_steps < steps else steps // 10


MODEL_SETTINGS = frozenset(
    {
        *("output_dim", "base_model", "freeze_base", "freeze_early_layers", "normalize_embeddings", "use_predictor"),
        *("max_seq_length", "loss", "isotropy", "queue_size", "lambda_isotropy"),
    }
)
"""Settings that a run cannot go on with if they differ: they decide what there is to go on with."""

PLACE_SETTINGS = frozenset({"output_dir", "device", "save_interval", "log_interval", "train_data", "val_data"})
"""Settings that say where and when, not what; the data are compared by content."""
