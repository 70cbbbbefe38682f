"""Settings of the questions that stand in for real ones."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PseudoQuestionConfig(BaseModel):
    """Questions made of the documents' own sentences: alone where there are no labels, beside few of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: Literal["auto", "always", "never"] = Field(
        "auto", description="Beside real questions: auto where these are few and dev is better for it, always, never."
    )
    below: int = Field(10_000, ge=0, description="Labelled training pairs from which auto does without.")
    fewest_labelled: int = Field(20, ge=0, description="Fewer labelled pairs than this neither train nor decide.")
    form: Literal["keywords", "sentences"] = Field(
        "keywords", description="keywords: 3 to 8 words of a sentence, as typed into a search box. Or whole sentences."
    )
    per_document: int = Field(2, ge=1, description="Most pseudo-questions of one document.")
    most: int = Field(20_000, ge=100, description="Most pseudo-questions of a corpus.")
