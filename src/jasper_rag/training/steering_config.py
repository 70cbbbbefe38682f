"""Settings of steering for one run, over those of its dataset; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jasper_rag.data.curriculum import Curriculum
from jasper_rag.data.dataset_config import CurriculumSettings, DatasetConfig, SteeringShares

Share = Annotated[float, Field(ge=0, le=1)]

_ZERO_SHARE = frozenset({"zero_prob_start", "zero_prob_end", "epochs_total"})
_GUIDED_SHARE = frozenset({"start_distance", "end_distance", "warmup_epochs"})


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SteeringProbabilities(_Settings):
    """How often each steering variant is served; they sum to 1."""

    zero: Share = Field(0.0, description="No steering: a vector of zeros.")
    centroid: Share = Field(0.0, description="From the question towards the centroid of the answer's cluster.")
    keyword: Share = Field(0.0, description="Towards the keywords of the pair.")
    residual: Share = Field(0.0, description="From the centroid to the question.")

    @model_validator(mode="after")
    def _sum_to_one(self) -> SteeringProbabilities:
        total = sum(self.model_dump().values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares must sum to 1, but the sum is {total:g}; a share left out is 0")
        return self


class SteeringCurriculum(_Settings):
    """Share of zero steering by epoch, in either of the two spellings that a dataset may have."""

    mode: Literal["linear", "cosine", "fixed", "none"] = Field(
        "linear", description="How the share changes; fixed: as in epoch 0; none: the probabilities as they are."
    )
    zero_prob_start: Share | None = Field(None, description="Share of zero steering in epoch 0. [0.5]")
    zero_prob_end: Share | None = Field(None, description="... and at the end. [0.1]")
    epochs_total: float | None = Field(None, ge=0, description="Epochs from the one to the other. [100]")
    start_distance: Share | None = Field(None, description="Share of the other three variants in epoch 0. [0.3]")
    end_distance: Share | None = Field(None, description="... and at the end. [0.7]")
    warmup_epochs: float | None = Field(None, ge=0, description="Epochs from the one to the other. [10]")

    @model_validator(mode="after")
    def _one_spelling(self) -> SteeringCurriculum:
        given = self.model_dump(exclude_none=True).keys()
        if given & _ZERO_SHARE and given & _GUIDED_SHARE:
            raise ValueError("give zero_prob_* and epochs_total, or *_distance and warmup_epochs, not both")
        return self


class SteeringConfig(_Settings):
    """The section `steering:`; what is null is the dataset's own."""

    probabilities: SteeringProbabilities | None = Field(None, description="Shares of the variants.")
    curriculum: SteeringCurriculum | None = Field(None, description="Share of zero steering by epoch.")

    def schedule(self, dataset: DatasetConfig) -> Curriculum:
        """Probabilities by epoch: of the run where it says something, else of the dataset.

        Args:
            dataset: config.json of the dataset directory.
        """
        shares = dataset.steering_probabilities
        if self.probabilities is not None:
            shares = SteeringShares(**self.probabilities.model_dump())
        curriculum = dataset.curriculum
        if self.curriculum is not None:
            given = self.curriculum.model_dump(exclude_none=True)
            curriculum = None if self.curriculum.mode == "none" else CurriculumSettings(**given)
        return dataset.model_copy(update={"steering_probabilities": shares, "curriculum": curriculum}).schedule()
