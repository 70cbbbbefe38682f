"""Settings of explanations; free of torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ExplainConfig(BaseModel):
    """What a model keeps so that its searches can be explained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    known_pairs: bool = Field(
        True, description="Keep up to 20,000 train questions, with their texts, to show those like a new one."
    )
