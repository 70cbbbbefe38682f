"""Every setting of a training of the subspace model: those of a plain run, and its router; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jasper_rag.losses.loss_config import Weight
from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig
from jasper_rag.models.jasper_predictor_config import Activation
from jasper_rag.training.config_loading import load_sections
from jasper_rag.training.run_config import ALIASES, RunConfig

_OF_THE_FINE_PART = ("fine_input_mode", "num_subspaces", "cosine_logits", "cosine_temperature")
"""Keys of `router:` that have no other name in the predictor's settings."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RouterConfig(_Settings):
    """The section `router:`. The first ten keys are the documented ones."""

    hidden_dim: int = Field(256, gt=0, description="Width of the router's hidden layers.")
    num_subspaces: int | None = Field(None, ge=2, description="K; null: as many as the dataset has clusters.")
    num_layers: int = Field(2, ge=1, description="Linear layers of the router.")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Dropout in the router.")
    activation: Activation = Field("GELU", description="Activation in the router.")
    use_layer_norm: bool = Field(True, description="LayerNorm in the router.")
    temperature: float = Field(1.0, gt=0, description="Divides the logits; Gumbel samples start from it.")
    gumbel_hard: bool = Field(False, description="One subspace per training sample.")
    normalize_input: bool = Field(True, description="Scale question and steering, put together, to length 1.")
    fine_input_mode: Literal["concat", "add"] = Field(
        "concat", description="How latents and coarse part reach the fine MLP: side by side, or as a sum."
    )
    final_temperature: float = Field(0.1, gt=0, description="Temperature of the samples at the last step.")
    argmax: bool = Field(False, description="At inference the coarse part is one centroid.")
    cosine_logits: bool = Field(True, description="Start from the cosines to the centroids; the network corrects them.")
    cosine_temperature: float = Field(0.05, gt=0, description="Divides these cosines.")
    anchor_epochs: int = Field(
        0, ge=0, description="First epochs, in which the router learns alone, by its own losses."
    )
    freeze_router: bool = Field(False, description="Leave the router as it is after these epochs.")

    @model_validator(mode="after")
    def _something_to_freeze(self) -> RouterConfig:
        if self.freeze_router and not (self.anchor_epochs or self.cosine_logits):
            raise ValueError("freeze_router without anchor_epochs and cosine_logits would keep a random router")
        return self


class RoutingLossConfig(_Settings):
    """The section `routing_loss:`, the arguments of `RoutingObjective`."""

    lambda_routing: Weight = Field(1.0, description="Cross-entropy of the answer's topic under the router.")
    lambda_entropy: Weight = Field(0.1, description="Squared distance of the mean routing entropy from its target.")
    lambda_residual: Weight = Field(0.1, description="Length of the fine part beyond `residual_margin`.")
    lambda_disentangle: Weight = Field(0.01, description="Squared covariances of the routing weights.")
    routing_label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all topics.")
    entropy_high: float | None = Field(None, ge=0, description="Target in the first epoch, in nats; null: log K.")
    entropy_low: float = Field(0.1, ge=0, description="Target from `anneal_epochs` on, in nats.")
    anneal_epochs: int = Field(20, ge=0, description="Epochs until the low target.")
    residual_margin: float = Field(1.0, ge=0, description="Length of the fine part that costs nothing.")

    @model_validator(mode="after")
    def _targets_in_order(self) -> RoutingLossConfig:
        if self.entropy_high is not None and self.entropy_low > self.entropy_high:
            raise ValueError(f"entropy_low {self.entropy_low:g} must not be above entropy_high {self.entropy_high:g}")
        return self


class XAIConfig(_Settings):
    """The section `xai:`: explanations of the val split, written while it trains."""

    save_val_xai: bool = Field(True, description="Explain the val split.")
    xai_every_n_epochs: int = Field(5, gt=0, description="Epochs between explanations; the last epoch always has some.")
    xai_output_dir: str | None = Field(None, min_length=1, description="Their folder; null: `xai` in the run.")
    cluster_names_file: str | None = Field(
        None, min_length=1, description="Names of the subspaces, a JSON list or lines; null: the dataset's."
    )
    num_similar_pairs: int = Field(5, ge=0, description="Known pairs that are shown beside each question.")


class SubspaceRunConfig(RunConfig):
    """All settings of a run of the subspace model. Those of a plain run are accepted as they are."""

    router: RouterConfig = Field(default_factory=RouterConfig, description="The router.")
    routing_loss: RoutingLossConfig = Field(default_factory=RoutingLossConfig, description="What the router learns by.")
    xai: XAIConfig = Field(default_factory=XAIConfig, description="Explanations of the val split.")

    @model_validator(mode="after")
    def _anchors_learn(self) -> SubspaceRunConfig:
        if self.router.anchor_epochs and not self.routing_loss.lambda_routing:
            raise ValueError("router.anchor_epochs needs routing_loss.lambda_routing above 0")
        return self

    def predictor(self, num_subspaces: int) -> DecomposedJASPERConfig:
        """Settings of the predictor: those of `model:` and `router:` together, with the K of the dataset."""
        own = self.router.model_dump(exclude={"anchor_epochs", "freeze_router"}) | {"num_subspaces": num_subspaces}
        routed = {key if key in _OF_THE_FINE_PART else f"router_{key}": value for key, value in own.items()}
        return DecomposedJASPERConfig(**{**self.model.model_dump(), **routed})


def load_subspace_config(
    path: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> SubspaceRunConfig:
    """As `load_run_config`, with the sections of the router.

    Args:
        path: YAML file, e.g. configs/subspace_jasper.yaml or configs/jasper_base.yaml; None for defaults only.
        overrides: "section.key" -> value, e.g. {"router.anchor_epochs": 3}; None values are skipped.

    Raises:
        InputError: As `load_run_config`.
    """
    return load_sections(SubspaceRunConfig, path, overrides, ALIASES)
