"""Settings of the EMA target encoder; free of torch so that help texts and validation stay instant."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EMAConfig(BaseModel):
    """Momentum of the target encoder, and what the predictor aims at; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tau_min: float = Field(0.996, gt=0, lt=1, description="Momentum at the first step; lower follows faster.")
    tau_max: float = Field(0.999, gt=0, lt=1, description="Momentum at the last step.")
    schedule: Literal["cosine"] = Field("cosine", description="How the momentum goes from the one to the other.")
    target: Literal["identity", "ema"] = Field(
        "identity",
        description="identity: the sources as they are; ema: a linear map of the sources that is trained too.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> EMAConfig:
        if self.tau_min > self.tau_max:
            raise ValueError(f"tau_min must not be above tau_max, got {self.tau_min} and {self.tau_max}")
        return self
