"""config.json of a dataset directory, checked; free of torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from jasper_rag import dataset_layout as layout
from jasper_rag.data.curriculum import Curriculum, Mode
from jasper_rag.errors import InputError

Fallback = Literal["centroid", "zero"]
Probability = Annotated[float, Field(ge=0, le=1)]

_SUM_TOLERANCE = 1e-6


class _Settings(BaseModel):
    # Strict: "8" is not 8. Keys it does not know are somebody else's.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class SteeringShares(_Settings):
    """Probability of each steering variant; they sum to 1."""

    model_config = ConfigDict(extra="forbid")

    zero: Probability = 0.25
    centroid: Probability = 0.25
    keyword: Probability = 0.25
    residual: Probability = 0.25


class CurriculumSettings(_Settings):
    """The curriculum in either spelling; if a key of the first is there, the second is not read."""

    mode: Mode = "linear"

    zero_prob_start: Probability = Field(0.5, description="Share of zero steering in epoch 0.")
    zero_prob_end: Probability = Field(0.1, description="... and at the end.")
    epochs_total: float = Field(100, ge=0, description="Epochs from the one to the other.")

    start_distance: Probability = Field(0.3, description="Share of the other three variants in epoch 0.")
    end_distance: Probability = Field(0.7, description="... and at the end.")
    warmup_epochs: float = Field(10, ge=0, description="Epochs from the one to the other.")

    def curriculum(self, base: SteeringShares) -> Curriculum:
        """The formulas with these numbers."""
        shares = (base.zero, base.centroid, base.keyword, base.residual)
        given = self.model_fields_set
        first = {"zero_prob_start", "zero_prob_end", "epochs_total"} & given
        if not first and {"start_distance", "end_distance", "warmup_epochs"} & given:
            return Curriculum(shares, self.mode, 1 - self.start_distance, 1 - self.end_distance, self.warmup_epochs)
        return Curriculum(shares, self.mode, self.zero_prob_start, self.zero_prob_end, self.epochs_total)


class DatasetConfig(_Settings):
    """What is read of config.json; the keys are `dataset_layout`'s."""

    format_version: int | None = Field(None, description="None: a directory of the original project.")
    embedding_dim: int = Field(ge=1)
    n_neg: int = Field(ge=1)
    n_pairs: int | None = Field(None, ge=0)
    n_questions: int | None = Field(None, ge=0)
    n_sources: int | None = Field(None, ge=0)
    n_keywords: int | None = Field(None, ge=0)
    n_clusters: int | None = Field(None, ge=0)
    random_seed: int = layout.DEFAULT_SEED
    steering_probabilities: SteeringShares = SteeringShares()
    curriculum: CurriculumSettings | None = None
    steering_fallback_strategy: Fallback = "centroid"
    steering_normalize_residual: bool = False

    # Only say how the directory was made; a damaged value is refused all the same.
    clustering_source: str | None = None
    split_ratios: list[Probability] | None = Field(None, min_length=3, max_length=3)
    storage_format: Literal["safetensors", "pt", "hdf5"] | None = None
    include_inspection_file: bool = False
    csv_splits: dict[str, Any] | None = None
    encoder: dict[str, Any] | None = None

    @field_validator("steering_probabilities")
    @classmethod
    def _shares_sum_to_one(cls, shares: SteeringShares) -> SteeringShares:
        _require_sum_of_one(sum(shares.model_dump().values()))
        return shares

    @field_validator("split_ratios")
    @classmethod
    def _ratios_sum_to_one(cls, ratios: list[float] | None) -> list[float] | None:
        if ratios is not None:
            _require_sum_of_one(sum(ratios))
        return ratios

    @field_validator("format_version")
    @classmethod
    def _known_version(cls, version: int | None) -> int | None:
        if version not in (None, layout.FORMAT_VERSION):
            raise ValueError(f"format version {version}, but this program reads {layout.FORMAT_VERSION}")
        return version

    @field_validator("curriculum", mode="before")
    @classmethod
    def _empty_means_none(cls, value: Any) -> Any:
        return None if value == {} else value

    def schedule(self) -> Curriculum:
        """The curriculum; without one, the steering probabilities as they are."""
        base = self.steering_probabilities
        if self.curriculum is None:
            return Curriculum((base.zero, base.centroid, base.keyword, base.residual))
        return self.curriculum.curriculum(base)


def read_config(path: Path) -> tuple[DatasetConfig, dict[str, Any]]:
    """Read and check config.json.

    Returns:
        The settings, and the whole file as it stands.

    Raises:
        InputError: The file cannot be read, or a value is of the wrong type or outside its range.
    """
    raw = read_json(path)
    try:
        return DatasetConfig.model_validate(raw), dict(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{first['msg']}; got {str(first.get('input'))[:60]!r}",
            remedy="Mend the value, or build the dataset again.",
            path=path,
            field=".".join(str(part) for part in first["loc"]) or None,
        ) from error


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        InputError: It is missing, unreadable, not UTF-8 or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise InputError(problem, remedy="Is this a steering dataset directory?", path=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", remedy="Build the dataset again.", path=path) from error


def _require_sum_of_one(total: float) -> None:
    if not math.isclose(total, 1, abs_tol=_SUM_TOLERANCE):
        raise ValueError(f"must sum to 1, but the sum is {total:g}")
