"""Settings of predictor training and of the guard; free of torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PredictorTrainingConfig(BaseModel):
    """How the predictor is trained on cached embeddings; defaults chosen on dev splits (docs/lab_log.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    temperature: float = Field(0.025, ge=1e-4, description="Divides the cosines inside the softmax over all sources.")
    batch_size: int = Field(512, gt=0, description="Question-source pairs per step.")
    steps: int = Field(500, gt=0, description="Most optimiser steps of one run.")
    evaluations: int = Field(25, gt=0, description="Dev evaluations spread over the steps.")
    patience: int = Field(6, gt=0, description="Stop after this many evaluations without a better dev nDCG@10.")
    learning_rate_start: float = Field(1e-4, gt=0, description="Learning rate of the first step.")
    learning_rate_end: float = Field(3e-3, gt=0, description="Learning rate of the last step; it grows geometrically.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")

    @model_validator(mode="after")
    def _rates_grow(self) -> PredictorTrainingConfig:
        if self.learning_rate_end < self.learning_rate_start:
            raise ValueError(
                f"learning_rate_end {self.learning_rate_end} must not be below "
                f"learning_rate_start {self.learning_rate_start}"
            )
        return self


class GuardConfig(BaseModel):
    """How the guard is fitted on the dev split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha_step: float = Field(0.1, ge=0.001, le=1, description="Grid step of the blend a; the grid always contains 0.")
    significance: float = Field(
        0.1, gt=0, le=1, description="Dev p-value against the plain encoder above which a = 0 is kept."
    )
    gate: bool = Field(True, description="Fit the per-question familiarity gate.")
    gate_low: float = Field(0.05, ge=0, lt=1, description="Dev quantile of familiarity where the gate is closed.")
    gate_high: float = Field(0.1, gt=0, le=1, description="Dev quantile of familiarity where the gate is fully open.")
    bank_size: int = Field(1024, gt=0, description="Most train questions, and most sources, kept in the gates' banks.")
    neighbours: int = Field(5, gt=0, description="Nearest of the bank that make up the familiarity.")
    corpus_gate: bool = Field(True, description="Fit the gate that closes over a corpus unlike the one trained on.")
    corpus_low: float = Field(0.1, ge=0, lt=1, description="Share of familiar documents where it is closed.")
    corpus_high: float = Field(0.25, gt=0, le=1, description="Share of familiar documents where it is fully open.")

    @model_validator(mode="after")
    def _quantiles_ordered(self) -> GuardConfig:
        if self.gate_low >= self.gate_high:
            raise ValueError(f"gate_low {self.gate_low} must be below gate_high {self.gate_high}")
        if self.corpus_low >= self.corpus_high:
            raise ValueError(f"corpus_low {self.corpus_low} must be below corpus_high {self.corpus_high}")
        return self
