"""The decomposed predictor: what the topics of a question say, plus what is particular to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig
from jasper_rag.models.mlp import mlp, zero_map
from jasper_rag.models.subspace_router import SubspaceRouter


class Decomposition(NamedTuple):
    """The parts of B predictions, with gradient.

    Args:
        prediction: [B, D].
        routing_weights: w, [B, K], rows summing to 1.
        concept_logits: [B, K].
        coarse: [B, D].
        fine: [B, D].
        atypicality: |fine|, [B].
    """

    prediction: Tensor
    routing_weights: Tensor
    concept_logits: Tensor
    coarse: Tensor
    fine: Tensor
    atypicality: Tensor

    def explanation(self) -> dict[str, Tensor]:
        """The parts under their documented names, detached; `coarse_vector` is `coarse`, `fine_vector` is `fine`."""
        parts = {name: part.detach() for name, part in self._asdict().items() if name != "prediction"}
        return {**parts, "coarse_vector": parts["coarse"], "fine_vector": parts["fine"]}


class DecomposedJASPERPredictor(nn.Module):
    """Predict  p = coarse + fine.

        coarse = w C                                                        w: routing weights, C: frozen centroids
        fine   = (q - coarse) + q W + s V + m fine_mlp(enc_q(q), enc_s(s), coarse)

    q - coarse is the residual path, W and V the linear path (both start at 0), m fine_mlp the documented network, whose
    last layer starts at 0 when a path stands beside it; m is `mlp_scale` then and 1 otherwise. An untrained predictor
    is therefore the identity, up to rounding; without `residual` it is the coarse part. With `residual`, `linear_path`
    and `cosine_logits` off it is the documented network.

    With `residual`, coarse cancels out of p but for what fine_mlp learns from it: a loss on p alone hardly trains the
    router. Losses on `decompose(...)` do.

    Args:
        config: Widths and paths, or a dict of them.

    Raises:
        ValueError: If every path is switched off, or a dict holds an unknown key or a value out of range.
    """

    def __init__(self, config: DecomposedJASPERConfig | Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(config, DecomposedJASPERConfig):
            config = DecomposedJASPERConfig.from_dict(config)
        if not (config.residual or config.linear_path or config.mlp):
            raise ValueError("a predictor needs at least one of residual, linear_path and mlp; all three are off.")
        self.config = config
        self._latents: dict[str, Tensor] = {}
        dim, hidden = config.embedding_dim, config.hidden_dim
        beside = config.residual or config.linear_path
        self.router = SubspaceRouter(config.router())
        if config.linear_path:
            self.question_map, self.steering_map = zero_map(dim), zero_map(dim)
        if config.mlp:
            self.question_encoder = mlp(dim, hidden, config)
            self.steering_encoder = mlp(dim, hidden, config)
            if config.fine_input_mode == "add":
                self.coarse_projector = nn.Linear(dim, hidden)
            self.fine_mlp = mlp(2 * hidden + dim if config.fine_input_mode == "concat" else hidden, dim, config)
            if beside:
                for parameter in self.fine_mlp[-1].parameters():
                    nn.init.zeros_(parameter)
        self._scale = config.mlp_scale if beside else 1.0

    def forward(
        self,
        question_emb: Tensor,
        steering_emb: Tensor | None,
        centroid_embs: Tensor,
        training: bool | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Predicted source embeddings [B, D], with gradient, and their explanation, detached.

        The explanation holds `routing_weights` and `concept_logits` [B, K], `coarse` and `fine` [B, D], also as
        `coarse_vector` and `fine_vector`, and `atypicality` [B]. For losses on these, call `decompose`.

        Args:
            question_emb: [B, D].
            steering_emb: [B, D]; None means zero steering.
            centroid_embs: [K, D]; no gradient flows into them.
            training: Whether the router draws Gumbel noise; None follows the module's mode.

        Raises:
            ValueError: If K, D or the shapes differ.
        """
        parts = self.decompose(question_emb, steering_emb, centroid_embs, training)
        return parts.prediction, parts.explanation()

    def decompose(
        self,
        question_emb: Tensor,
        steering_emb: Tensor | None,
        centroid_embs: Tensor,
        training: bool | None = None,
    ) -> Decomposition:
        """What `forward` computes, every part with gradient.

        prediction = coarse + fine; with `normalize_output` it is that sum scaled to length 1.

        Args:
            question_emb: [B, D].
            steering_emb: [B, D]; None means zero steering.
            centroid_embs: [K, D]; no gradient flows into them.
            training: Whether the router draws Gumbel noise; None follows the module's mode.

        Raises:
            ValueError: If K, D or the shapes differ.
        """
        self.router.check_centroids(centroid_embs)
        weights, logits = self.router(question_emb, steering_emb, training, centroids=centroid_embs)
        coarse = weights @ centroid_embs.detach()
        fine, latents = self._fine(question_emb, steering_emb, coarse)
        prediction = coarse + fine
        if self.config.normalize_output:
            prediction = functional.normalize(prediction, dim=-1)
        parts = Decomposition(prediction, weights, logits, coarse, fine, torch.linalg.vector_norm(fine, dim=-1))
        if not torch.compiler.is_compiling():  # a compiled graph would have to keep them as outputs
            kept = {name: getattr(parts, name) for name in ("routing_weights", "coarse", "fine", "atypicality")}
            self._latents = {name: latent.detach() for name, latent in {**latents, **kept}.items()}
        return parts

    def get_routing_weights(
        self, question_emb: Tensor, steering_emb: Tensor | None = None, centroid_embs: Tensor | None = None
    ) -> Tensor:
        """Routing weights [B, K] in the module's mode; centroids [K, D], or the router's own where it has some."""
        weights: Tensor = self.router(question_emb, steering_emb, centroids=centroid_embs)[0]
        return weights

    @property
    def embedding_dim(self) -> int:
        """D, the width of questions, steering and predictions."""
        return self.config.embedding_dim

    @property
    def hidden_dim(self) -> int:
        """H, the width of the latents."""
        return self.config.hidden_dim

    @property
    def num_subspaces(self) -> int:
        """K, the number of subspaces."""
        return self.config.num_subspaces

    @property
    def steers(self) -> bool:
        """Whether steering can move a prediction: not while every map that it passes through last is 0."""
        last: list[nn.Module] = [self.steering_map] if self.config.linear_path else []
        last += [self.fine_mlp[-1]] if self.config.mlp else []
        last += [] if self.config.residual else [self.router.router_mlp[-1]]  # beside the residual, coarse cancels out
        return any(bool(next(layer.parameters()).any()) for layer in last)

    def get_latent_representations(self) -> dict[str, Tensor]:
        """Of the last forward pass, on the CPU; {} before any.

        `question_latent` and `steering_latent` [B, H] (not without the MLP), `routing_weights`, `coarse`, `fine` and
        `atypicality`. Passes of a compiled model leave none.
        """
        return {name: latent.to("cpu", copy=True) for name, latent in self._latents.items()}

    def get_model_summary(self) -> str:
        """Settings and number of parameters, part by part, for people."""
        config = ", ".join(f"{name}={value}" for name, value in self.config.model_dump().items())
        parts = [(name, sum(each.numel() for each in part.parameters())) for name, part in self.named_children()]
        lines = [f"  {name}: {count:,} parameters" for name, count in parts]
        total = sum(count for _, count in parts)
        return "\n".join([f"DecomposedJASPERPredictor({config})", *lines, f"  total: {total:,}"])

    def _fine(self, question: Tensor, steering: Tensor | None, coarse: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The fine part [B, D], and the latents it was made from."""
        fine = question - coarse if self.config.residual else torch.zeros_like(coarse)
        if self.config.linear_path:
            fine = fine + self.question_map(question)
            if steering is not None:
                fine = fine + self.steering_map(steering)
        if not self.config.mlp:
            return fine, {}
        asked = self.question_encoder(question)
        steered = self.steering_encoder(torch.zeros_like(question) if steering is None else steering)
        if self.config.fine_input_mode == "concat":
            joined = torch.cat([asked, steered, coarse], dim=-1)
        else:
            joined = asked + steered + self.coarse_projector(coarse)
        return fine + self._scale * self.fine_mlp(joined), {"question_latent": asked, "steering_latent": steered}


DecomposedJEPAPredictor = DecomposedJASPERPredictor
