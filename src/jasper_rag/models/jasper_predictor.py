"""The predictor: from a question embedding (and optional steering) to the embedding of the source that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.mlp import mlp, zero_map


class JASPERPredictor(nn.Module):
    """Predict the answering source:  p = q + q W + s V + m head([enc_q(q); enc_s(s)]).

    q is the residual path, W and V the linear path (both start at 0; W at the identity where the residual path is off),
    the rest the documented MLPs, whose last layer starts at 0 when a residual or linear path stands beside them. An
    untrained predictor is therefore the identity and ranks exactly as the question does. Hidden layers have length
    sqrt(H), questions length 1: m = `mlp_scale` keeps an optimiser's equal steps from moving the MLP's part that much
    further than the maps'. With `residual` and `linear_path` off it is the documented network.

    Args:
        config: Widths and paths, or a dict of them.

    Raises:
        ValueError: If every path is switched off, or a dict holds an unknown key or a value out of range.
    """

    def __init__(self, config: JASPERPredictorConfig | Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(config, JASPERPredictorConfig):
            config = JASPERPredictorConfig.from_dict(config)
        if not (config.residual or config.linear_path or config.mlp):
            raise ValueError("a predictor needs at least one of residual, linear_path and mlp; all three are off.")
        self.config = config
        self._latents: dict[str, Tensor] = {}
        dim, hidden = config.embedding_dim, config.hidden_dim
        if config.linear_path:
            self.question_map = zero_map(dim)
            if not config.residual:
                # All predictions would be 0, which has no direction and gives normalisation a gradient of 1e12.
                nn.init.eye_(self.question_map.weight)
            self.steering_map = zero_map(dim)
        if config.mlp:
            self.question_encoder = mlp(dim, hidden, config)
            self.steering_encoder = mlp(dim, hidden, config)
            self.predictor_head = mlp(2 * hidden, dim, config)
            if config.residual or config.linear_path:
                for parameter in self.predictor_head[-1].parameters():
                    nn.init.zeros_(parameter)
        self._scale = config.mlp_scale if config.residual or config.linear_path else 1.0

    def forward(self, question_emb: Tensor, steering_emb: Tensor | None = None) -> Tensor:
        """Predicted source embeddings [B, D].

        Args:
            question_emb: [B, D].
            steering_emb: [B, D]; None means zero steering.

        Raises:
            ValueError: If the width is not `embedding_dim` or the shapes differ.
        """
        self._check(question_emb, steering_emb)
        prediction = question_emb if self.config.residual else torch.zeros_like(question_emb)
        if self.config.linear_path:
            prediction = prediction + self.question_map(question_emb)
            if steering_emb is not None:
                prediction = prediction + self.steering_map(steering_emb)
        if self.config.mlp:
            steering = torch.zeros_like(question_emb) if steering_emb is None else steering_emb
            question_latent, steering_latent = self.question_encoder(question_emb), self.steering_encoder(steering)
            if not torch.compiler.is_compiling():  # a compiled graph would have to keep them as outputs
                self._latents = {
                    "question_latent": question_latent.detach(),
                    "steering_latent": steering_latent.detach(),
                }
            correction = self.predictor_head(torch.cat([question_latent, steering_latent], dim=-1))
            prediction = prediction + self._scale * correction
        return functional.normalize(prediction, dim=-1) if self.config.normalize_output else prediction

    @property
    def embedding_dim(self) -> int:
        """D, the width of questions, steering and predictions."""
        return self.config.embedding_dim

    @property
    def hidden_dim(self) -> int:
        """H, the width of the latents."""
        return self.config.hidden_dim

    @property
    def steers(self) -> bool:
        """Whether steering can move a prediction: not while every map that it passes through last is 0."""
        last: list[nn.Module] = [self.steering_map] if self.config.linear_path else []
        last += [self.predictor_head[-1]] if self.config.mlp else []
        return any(bool(next(layer.parameters()).any()) for layer in last)

    def get_latent_representations(self) -> dict[str, Tensor]:
        """{"question_latent", "steering_latent"}, [B, H] on the CPU, of the last forward pass; {} before any.

        Passes of a compiled model leave none, nor does a predictor without the MLP.
        """
        return {name: latent.to("cpu", copy=True) for name, latent in self._latents.items()}

    def get_model_summary(self) -> str:
        """Settings and number of parameters, part by part, for people."""
        config = ", ".join(f"{name}={value}" for name, value in self.config.model_dump().items())
        parts = [(name, sum(each.numel() for each in part.parameters())) for name, part in self.named_children()]
        lines = [f"  {name}: {count:,} parameters" for name, count in parts]
        return "\n".join([f"JASPERPredictor({config})", *lines, f"  total: {sum(count for _, count in parts):,}"])

    def _check(self, question_emb: Tensor, steering_emb: Tensor | None) -> None:
        if question_emb.shape[-1] != self.config.embedding_dim:
            raise ValueError(
                f"questions of width {question_emb.shape[-1]} for a predictor of width {self.config.embedding_dim}."
            )
        if steering_emb is not None and steering_emb.shape != question_emb.shape:
            raise ValueError(f"steering {list(steering_emb.shape)} for questions {list(question_emb.shape)}.")


JEPAPredictor = JASPERPredictor
