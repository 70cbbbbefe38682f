"""Settings of a dataset build; free of torch. Keys that the original project has keep its names and defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jasper_rag import dataset_layout as layout
from jasper_rag.build.negative_config import NegativeConfig
from jasper_rag.text.keywords import PER_PAIR, PER_QUESTION

Clustering = Literal["kmeans", "topic", "title", "file"]
SplitMode = Literal["given", "source", "question"]
Share = Annotated[float, Field(ge=0, le=1)]


class CurriculumConfig(BaseModel):
    """Share of zero steering by epoch, in either of the two spellings that a dataset may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["linear", "cosine", "fixed"] = "linear"
    zero_prob_start: Share | None = Field(None, description="Share of zero steering in epoch 0. [0.5]")
    zero_prob_end: Share | None = Field(None, description="... and at the end. [0.1]")
    epochs_total: float | None = Field(None, ge=0, allow_inf_nan=False, description="Epochs in between. [100]")
    start_distance: Share | None = Field(None, description="Share of the other three variants in epoch 0. [0.3]")
    end_distance: Share | None = Field(None, description="... and at the end. [0.7]")
    warmup_epochs: float | None = Field(None, ge=0, allow_inf_nan=False, description="Epochs in between. [10]")

    @model_validator(mode="after")
    def _one_spelling(self) -> CurriculumConfig:
        given = self.model_dump(exclude_none=True).keys()
        if given & {"zero_prob_start", "zero_prob_end", "epochs_total"} and given & {
            "start_distance",
            "end_distance",
            "warmup_epochs",
        }:
            raise ValueError("give zero_prob_* and epochs_total, or *_distance and warmup_epochs, not both")
        return self


class BuildConfig(BaseModel):
    """How a steering dataset is built from documents, questions and judgements."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clustering: Clustering = Field("kmeans", description="Clusters found, or given by topic, title or a cluster file.")
    n_clusters: int | None = Field(None, ge=2, description="Of k-means; null: by the number of sources.")
    split: SplitMode = Field("given", description="Splits as given (missing ones are made), by source or by question.")
    csv_splits: dict[layout.Split, list[str]] | None = Field(None, description="Split -> its CSV files, for --csv.")
    split_ratios: tuple[float, float, float] = Field((0.8, 0.1, 0.1), description="Of train, val and test when split.")
    negatives: NegativeConfig = Field(default_factory=NegativeConfig)
    steering_probabilities: dict[str, float] = Field(
        default_factory=lambda: dict(layout.DEFAULT_STEERING_PROBABILITIES), description="Shares of the variants."
    )
    curriculum: CurriculumConfig = Field(
        default_factory=lambda: CurriculumConfig(zero_prob_start=0.5, zero_prob_end=0.1, epochs_total=100)
    )
    keywords_per_pair: int = Field(PER_PAIR, ge=0, description="Most keywords of a pair.")
    keywords_per_question: int = Field(PER_QUESTION, ge=0, description="Most keywords of a question.")
    keyword_vocabulary: int = Field(4_000, ge=1, description="Most keywords of the dataset.")
    language: str = Field("english", description="Of the texts: stop words and stems of names and keywords.")
    near_duplicate: float = Field(0.95, gt=0, le=1, description="Cosine from which two questions count as one.")
    random_seed: int = Field(layout.DEFAULT_SEED, ge=0, description="Same seed, same dataset.")

    @model_validator(mode="after")
    def _shares(self) -> BuildConfig:
        if set(self.steering_probabilities) != set(layout.VARIANTS):
            raise ValueError(f"steering_probabilities needs exactly {', '.join(layout.VARIANTS)}")
        if abs(sum(self.steering_probabilities.values()) - 1) > 1e-6 or min(self.steering_probabilities.values()) < 0:
            raise ValueError(f"steering_probabilities {self.steering_probabilities} must be >= 0 and sum to 1")
        if abs(sum(self.split_ratios) - 1) > 1e-6 or min(self.split_ratios) < 0:
            raise ValueError(f"split_ratios {self.split_ratios} must be >= 0 and sum to 1")
        if min(self.split_ratios[:2]) == 0:
            raise ValueError(f"split_ratios {self.split_ratios}: train and val need a share, test may have none")
        if self.csv_splits is not None and self.split != "given":
            raise ValueError(f"csv_splits gives the splits; split {self.split} would make others")
        if self.csv_splits is not None and not self.csv_splits.get("train"):
            raise ValueError("csv_splits names no file of the train split")
        if self.n_clusters is not None and self.clustering != "kmeans":
            raise ValueError(f"n_clusters is of k-means; clustering by {self.clustering} has as many as it is given")
        return self
