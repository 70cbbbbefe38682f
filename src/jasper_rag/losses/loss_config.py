"""Settings of the loss; free of torch so that help texts and validation stay instant."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Negatives = Literal["sources", "batch", "hard"]
Weight = Annotated[float, Field(ge=0)]

_WEIGHTS = ("lambda_jasper", "lambda_contrastive", "lambda_centroid", "lambda_vicreg")
_OTHER_SPELLINGS = {"lambda_jepa": "lambda_jasper", "jepa_beta": "jasper_beta"}


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _take_other_spellings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for other, name in _OTHER_SPELLINGS.items():
            if other in values and name in values:
                raise ValueError(f"{other} and {name} are one setting; give one of them")
        known = cls.model_fields
        return {
            _OTHER_SPELLINGS[key] if _OTHER_SPELLINGS.get(key) in known else key: value for key, value in values.items()
        }


class LossStage(_Settings):
    """Weights that hold from an epoch on; one left out stays as it was."""

    from_epoch: int = Field(ge=0, description="First epoch of the stage; epochs count from 0.")
    lambda_jasper: Weight | None = None
    lambda_contrastive: Weight | None = None
    lambda_centroid: Weight | None = None
    lambda_vicreg: Weight | None = None


class LossConfig(_Settings):
    """Weights, temperatures and stages; an unknown key is refused.

    The first ten keys are the documented ones. `lambda_jepa` and `jepa_beta` are taken for the first and the fifth.
    """

    lambda_jasper: Weight = Field(1.0, description="Smooth L1 between prediction and target.")
    lambda_contrastive: Weight = Field(0.5, description="Cross-entropy of the source among its negatives.")
    lambda_centroid: Weight = Field(0.1, description="Cross-entropy of the cluster among the centroids.")
    lambda_vicreg: Weight = Field(0.1, description="Variance, invariance and covariance.")
    jasper_beta: float = Field(1.0, ge=0, description="Where Smooth L1 turns from a parabola into a line.")
    contrastive_temperature: float = Field(0.07, gt=0, description="Divides the cosines; higher is softer.")
    centroid_temperature: float = Field(0.1, gt=0, description="Divides the cosines; lower is sharper.")
    vicreg_lambda_v: Weight = Field(25.0, description="Weight of the variance inside VICReg.")
    vicreg_lambda_i: Weight = Field(25.0, description="Weight of the invariance inside VICReg.")
    vicreg_lambda_c: Weight = Field(1.0, description="Weight of the covariance inside VICReg.")
    negatives: Negatives = Field(
        "sources",
        description="sources: all train sources; batch: the batch's other targets and the hard negatives; "
        "hard: the hard negatives alone.",
    )
    vicreg_scale: bool = Field(True, description="Multiply unit vectors by sqrt(D) before VICReg looks at them.")
    stages: tuple[LossStage, ...] = Field((), description="Changes of the weights, in the order of their epochs.")

    @model_validator(mode="after")
    def _check_stages(self) -> LossConfig:
        for before, after in pairwise(self.stages):
            if after.from_epoch <= before.from_epoch:
                raise ValueError(
                    f"stages must come in the order of from_epoch; {after.from_epoch} follows {before.from_epoch}"
                )
        for epoch in (0, *(stage.from_epoch for stage in self.stages)):
            if not any(self.weights_at(epoch).values()):
                raise ValueError(f"every weight is 0 in epoch {epoch}; nothing would be learnt")
        return self

    def weights_at(self, epoch: int) -> dict[str, float]:
        """The four weights of an epoch, counted from 0, by name."""
        weights = {name: getattr(self, name) for name in _WEIGHTS}
        for stage in self.stages:
            if stage.from_epoch <= epoch:
                weights |= stage.model_dump(exclude={"from_epoch"}, exclude_none=True)
        return weights
