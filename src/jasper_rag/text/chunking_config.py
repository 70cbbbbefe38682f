"""Settings of how long documents are cut into passages."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jasper_rag.text.chunking import How


class ChunkingConfig(BaseModel):
    """Whether and where documents are cut; a document then scores as the best of its passages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    how: How = Field("none", description="none, tokens (with overlap), headings or sentences.")
    size: int = Field(200, ge=1, description="Most tokens of a passage; the encoder's own, else words.")
    overlap: int = Field(32, ge=0, description="Most tokens that a passage repeats of the one before.")

    @model_validator(mode="after")
    def _overlap_below_size(self) -> ChunkingConfig:
        if self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap} must be below size {self.size}")
        return self
