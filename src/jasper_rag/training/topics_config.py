"""Settings of topics and of steering by them; free of torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TopicsConfig(BaseModel):
    """How documents are grouped into topics, and how long following one is trained (docs/lab_log.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: bool = Field(True, description="Group the documents, and train to follow a topic that is asked for.")
    count: int | None = Field(
        None, ge=2, description="Topics; null: the documents' own, else the root of their number, 64 at most."
    )
    steps: int = Field(200, gt=0, description="Most optimiser steps of the training on topics.")
