"""Settings of the decomposed predictor; free of torch so that help texts and validation stay instant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jasper_rag.models.jasper_predictor_config import Activation, JASPERPredictorConfig
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig


class DecomposedJASPERConfig(JASPERPredictorConfig):
    """What the decomposed predictor is made of; an unknown key is refused.

    The paths (`residual`, `linear_path`, `mlp`, `mlp_scale`) are those of `JASPERPredictorConfig`, here of the fine
    part. A router key that is None is as the same key without `router_`.
    """

    num_layers: int = Field(2, ge=1, description="Linear layers in each MLP.")
    num_subspaces: int = Field(8, ge=2, description="K, the number of subspaces.")
    fine_input_mode: Literal["concat", "add"] = Field(
        "concat", description="How latents and coarse part reach the fine MLP: side by side, or as a sum of width H."
    )
    router_hidden_dim: int = Field(256, gt=0, description="Width of the router's hidden layers.")
    router_temperature: float = Field(1.0, gt=0, description="Divides the logits; where training starts from.")
    router_gumbel_hard: bool = Field(False, description="One subspace per training sample.")
    router_normalize_input: bool = Field(True, description="Scale the router's input to length 1.")
    router_num_layers: int | None = Field(None, ge=1, description="Linear layers of the router.")
    router_dropout: float | None = Field(None, ge=0.0, lt=1.0, description="Dropout in the router.")
    router_activation: Activation | None = Field(None, description="Activation in the router.")
    router_use_layer_norm: bool | None = Field(None, description="LayerNorm in the router.")
    router_final_temperature: float = Field(0.1, gt=0, description="Temperature at the end of training.")
    router_argmax: bool = Field(False, description="At inference the coarse part is one centroid.")
    cosine_logits: bool = Field(True, description="Route from the cosines to the centroids; the router corrects them.")
    cosine_temperature: float = Field(0.05, gt=0, description="Divides these cosines.")

    def router(self) -> SubspaceRouterConfig:
        """Settings of the router within."""
        values = self.model_dump()
        chosen = {}
        for key in SubspaceRouterConfig.model_fields:
            own = values.get(f"router_{key}")
            chosen[key] = values[key] if own is None else own
        return SubspaceRouterConfig(**chosen)
