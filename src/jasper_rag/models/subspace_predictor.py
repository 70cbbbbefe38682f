"""A decomposed predictor together with the subspaces of one corpus: asked like a plain one, explained part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jasper_rag.models.decomposed_predictor import DecomposedJASPERPredictor, Decomposition
from jasper_rag.models.decomposed_predictor_config import DecomposedJASPERConfig
from jasper_rag.models.jasper_predictor import JASPERPredictor
from jasper_rag.models.subspace_router import SubspaceRouter


class PredictionParts(NamedTuple):
    """What B predictions are made of; the four parts sum to the prediction, each [B, D].

    Args:
        question: What the question says beyond its subspaces: q - coarse; 0 without a residual path.
        coarse: What its subspaces say: routing weights times centroids, w C.
        fine: What training added, q W + m fine_mlp(...).
        steering: What the steering changed: prediction with it minus prediction without.
        routing_weights: w without steering, [B, K].
        atypicality: Length of all that is not coarse, without steering, [B].
    """

    question: Tensor
    coarse: Tensor
    fine: Tensor
    steering: Tensor
    routing_weights: Tensor
    atypicality: Tensor


class SubspacePredictor(nn.Module):
    """`DecomposedJASPERPredictor` with its centroids C [K, D] held beside it, saved with it and never trained.

    Args:
        config: Of the decomposed predictor, or a dict of it.
        centroids: [K, D].

    Raises:
        ValueError: As the decomposed predictor, or centroids of another shape.
    """

    centroids: Tensor

    def __init__(self, config: DecomposedJASPERConfig | Mapping[str, Any], centroids: Tensor) -> None:
        super().__init__()
        self.decomposed = DecomposedJASPERPredictor(config)
        self.router.check_centroids(centroids)
        self.register_buffer("centroids", centroids.detach().to(torch.float32).clone())
        if self.config.cosine_logits:
            self.router.set_centroids(self.centroids)

    @classmethod
    def of_linear(cls, predictor: JASPERPredictor, router: SubspaceRouter, centroids: Tensor) -> SubspacePredictor:
        """A predictor of linear paths, with a router beside it: predicts the same, up to rounding.

        Args:
            predictor: Without MLPs, with the residual path; copied.
            router: Of the subspaces; copied.
            centroids: [K, D].

        Raises:
            ValueError: The predictor has MLPs or no residual path, or shapes differ.
        """
        if predictor.config.mlp:
            raise ValueError("a predictor with MLPs is not the sum of linear paths.")
        if not predictor.config.residual:
            raise ValueError("without a residual path the coarse part would be added to what the predictor predicts.")
        known = DecomposedJASPERConfig.model_fields
        own = router.config.model_dump().items()
        routed = {f"router_{key}" if f"router_{key}" in known else key: value for key, value in own}
        config = DecomposedJASPERConfig(**{**predictor.config.model_dump(), **routed})
        joined = cls(config, centroids)
        joined.router.load_state_dict(router.state_dict())
        if router.config.cosine_logits:
            joined.router.set_centroids(joined.centroids)
        paths = {name: value for name, value in predictor.state_dict().items() if name.endswith("_map.weight")}
        joined.decomposed.load_state_dict(paths, strict=False)
        return joined.eval()

    def forward(self, question_emb: Tensor, steering_emb: Tensor | None = None) -> Tensor:
        """Predicted source embeddings [B, D] for questions [B, D] and steering [B, D], None: zero steering."""
        return self.decompose(question_emb, steering_emb).prediction

    def decompose(
        self, question_emb: Tensor, steering_emb: Tensor | None = None, training: bool | None = None
    ) -> Decomposition:
        """See `DecomposedJASPERPredictor.decompose`; every part with gradient."""
        return self.decomposed.decompose(question_emb, steering_emb, self.centroids, training)

    @torch.no_grad()
    def parts(self, question_emb: Tensor, steering_emb: Tensor | None = None) -> PredictionParts:
        """What predictions are made of, as in evaluation mode, whatever the mode.

        With `normalize_output` all parts are divided by the length that the prediction is divided by.
        """
        mode = self.training
        self.eval()
        try:
            found = self.decompose(question_emb)
            steered = found.prediction if steering_emb is None else self(question_emb, steering_emb)
        finally:
            self.train(mode)
        question = question_emb - found.coarse if self.config.residual else torch.zeros_like(found.coarse)
        scale: Tensor | float = 1.0
        if self.config.normalize_output:
            whole = torch.linalg.vector_norm(found.coarse + found.fine, dim=-1, keepdim=True)
            scale = 1 / whole.clamp_min(torch.finfo(whole.dtype).tiny)
        return PredictionParts(
            question * scale,
            found.coarse * scale,
            (found.fine - question) * scale,
            steered - found.prediction,
            found.routing_weights,
            found.atypicality,
        )

    @property
    def router(self) -> SubspaceRouter:
        """The router within."""
        return self.decomposed.router

    @property
    def config(self) -> DecomposedJASPERConfig:
        """Settings of the decomposed predictor."""
        return self.decomposed.config

    @property
    def embedding_dim(self) -> int:
        """D, the width of questions, steering and predictions."""
        return self.config.embedding_dim

    @property
    def num_subspaces(self) -> int:
        """K, the number of subspaces."""
        return self.config.num_subspaces

    @property
    def steers(self) -> bool:
        """Whether steering can move a prediction."""
        return self.decomposed.steers

    def get_model_summary(self) -> str:
        """Settings and number of parameters, part by part, for people."""
        return self.decomposed.get_model_summary()
