"""The router: from a question embedding (and optional steering) to weights over the K subspaces of a corpus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.models.jasper_predictor_config import JASPERPredictorConfig
from jasper_rag.models.mlp import mlp
from jasper_rag.models.subspace_router_config import SubspaceRouterConfig


class SubspaceRouter(nn.Module):
    """Route to subspaces:  logits z_k = cos(q, c_k) / T_c + mlp([q; s] / |[q; s]|)_k.

        training    w = softmax((z + g) / t),  g ~ Gumbel(0, 1)      (Jang, Gu and Poole 2017)
        inference   w = softmax(z / T)

    The last layer of the MLP starts at 0: an untrained router is the nearest-centroid rule, softened. T is
    `config.temperature`; t is `temperature`, which training lowers (`temperature_at`). Inference does not follow t: the
    subspace that a Gumbel sample prefers is distributed as softmax(z) whatever t is, and a loaded router must route as
    the one that was saved. With `cosine_logits` off, z is the MLP alone and there are no centroids: the documented
    network.

    Args:
        config: Widths and options, or a dict of them.

    Raises:
        ValueError: If a dict holds an unknown key or a value out of range.
    """

    centroids: Tensor

    def __init__(self, config: SubspaceRouterConfig | Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(config, SubspaceRouterConfig):
            config = SubspaceRouterConfig.from_dict(config)
        self.config = config
        shared = config.model_dump(include=set(JASPERPredictorConfig.model_fields))
        self.router_mlp = mlp(2 * config.embedding_dim, config.num_subspaces, JASPERPredictorConfig(**shared))
        if config.cosine_logits:
            self.register_buffer("centroids", torch.zeros(config.num_subspaces, config.embedding_dim))
            for parameter in self.router_mlp[-1].parameters():
                nn.init.zeros_(parameter)
        self._temperature = config.temperature

    def forward(
        self,
        question_emb: Tensor,
        steering_emb: Tensor | None = None,
        training: bool | None = None,
        *,
        centroids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Routing weights [B, K], rows summing to 1, and concept logits z [B, K].

        Args:
            question_emb: [B, D].
            steering_emb: [B, D]; None means zero steering.
            training: Whether to draw Gumbel noise, from torch's default generator; None follows the module's mode,
                which dropout follows in any case.
            centroids: [K, D] to compare with instead of the router's own; without `cosine_logits` not used.

        Raises:
            ValueError: If widths or shapes differ, or centroids are needed and none were set.
        """
        self._check(question_emb, steering_emb)
        steering = torch.zeros_like(question_emb) if steering_emb is None else steering_emb
        joined = torch.cat([question_emb, steering], dim=-1)
        logits = self.router_mlp(functional.normalize(joined, dim=-1) if self.config.normalize_input else joined)
        if self.config.cosine_logits:
            directions = functional.normalize(self._known(centroids), dim=-1)
            cosines = functional.normalize(question_emb, dim=-1) @ directions.T
            logits = cosines / self.config.cosine_temperature + logits
        if self.training if training is None else training:
            return functional.gumbel_softmax(logits, tau=self._temperature, hard=self.config.gumbel_hard), logits
        weights = self.probabilities(logits)
        if self.config.argmax:
            weights = functional.one_hot(weights.argmax(dim=-1), self.num_subspaces).to(weights.dtype)
        return weights, logits

    def probabilities(self, concept_logits: Tensor) -> Tensor:
        """softmax(z / T) over the last axis of [..., K]."""
        return functional.softmax(concept_logits / self.config.temperature, dim=-1)

    def set_centroids(self, centroids: Tensor) -> None:
        """Keep a copy of these centroids [K, D], which is saved with the parameters.

        Raises:
            ValueError: If the shape differs, or `cosine_logits` is off.
        """
        if not self.config.cosine_logits:
            raise ValueError("a router without cosine_logits compares with no centroids.")
        self.check_centroids(centroids)
        with torch.no_grad():
            self.centroids.copy_(centroids)

    def check_centroids(self, centroids: Tensor) -> None:
        """Nothing where centroids are [K, D].

        Raises:
            ValueError: If they are not.
        """
        count, dim = self.num_subspaces, self.embedding_dim
        if centroids.ndim != 2 or centroids.shape[0] != count:
            raise ValueError(f"centroids {list(centroids.shape)} for a router of {count} subspaces.")
        if centroids.shape[1] != dim:
            raise ValueError(f"centroids of width {centroids.shape[1]} for a router of width {dim}.")

    @property
    def temperature(self) -> float:
        """Temperature t of the Gumbel samples; > 0. Not saved: it belongs to the step of the training."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not value > 0:
            raise ValueError(f"the temperature must be above 0, got {value}.")
        self._temperature = value

    def temperature_at(self, step: int, max_steps: int) -> float:
        """Temperature t of a step:  b + (a - b) (1 + cos(pi step / max_steps)) / 2.

        a is `config.temperature`; b is `config.final_temperature`, or a where that is lower. Steps beyond the last, or
        of no training, have b. Set `temperature` to it before each step.
        """
        first = self.config.temperature
        last = min(first, self.config.final_temperature)
        done = min(max(step / max_steps, 0.0), 1.0) if max_steps > 0 else 1.0
        return last + (first - last) * (1 + math.cos(math.pi * done)) / 2

    def get_primary_subspace(self, question_emb: Tensor, steering_emb: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The most likely subspace of each question, int64 [B], and its probability [B]; without noise or dropout."""
        confidences, rows = self._certain(question_emb, steering_emb).max(dim=-1)
        return rows, confidences

    def explain(
        self, question_emb: Tensor, steering_emb: Tensor | None, cluster_names: Sequence[str]
    ) -> dict[str, Any]:
        """Where questions are routed, in names; without noise or dropout.

        Args:
            question_emb: [B, D], or [D] for one.
            steering_emb: Of the same shape; None means zero steering.
            cluster_names: K names.

        Returns:
            `routing_weights` (K floats), `primary_subspace` (a name), `primary_confidence` and `entropy` (nats; the
            mean of the samples' entropies) of the mean over the batch; `cluster_names`; and `samples`, the first four
            of each question by itself.

        Raises:
            ValueError: If there are not K names, or widths or shapes differ.
        """
        if len(cluster_names) != self.num_subspaces:
            raise ValueError(f"{len(cluster_names)} names for a router of {self.num_subspaces} subspaces.")
        if question_emb.ndim == 1:
            question_emb = question_emb.unsqueeze(0)
            steering_emb = None if steering_emb is None else steering_emb.unsqueeze(0)
        if len(question_emb) == 0:
            raise ValueError("0 questions to explain; give at least 1.")
        weights = self._certain(question_emb, steering_emb)
        entropies = torch.special.entr(weights).sum(dim=-1)
        samples = _described(weights, entropies, cluster_names)
        mean = _described(weights.mean(dim=0, keepdim=True), entropies.mean(dim=0, keepdim=True), cluster_names)[0]
        return {**mean, "cluster_names": list(cluster_names), "samples": samples}

    @property
    def embedding_dim(self) -> int:
        """D, the width of questions, steering and centroids."""
        return self.config.embedding_dim

    @property
    def num_subspaces(self) -> int:
        """K, the number of subspaces."""
        return self.config.num_subspaces

    def get_model_summary(self) -> str:
        """Settings and number of parameters, for people."""
        config = ", ".join(f"{name}={value}" for name, value in self.config.model_dump().items())
        return f"SubspaceRouter({config})\n  total: {sum(each.numel() for each in self.parameters()):,}"

    @torch.no_grad()
    def _certain(self, question_emb: Tensor, steering_emb: Tensor | None) -> Tensor:
        """Probabilities [B, K] as in evaluation mode, whatever the mode."""
        mode = self.training
        self.eval()
        try:
            return self.probabilities(self(question_emb, steering_emb, training=False)[1])
        finally:
            self.train(mode)

    def _known(self, centroids: Tensor | None) -> Tensor:
        if centroids is not None:
            self.check_centroids(centroids)
            return centroids.detach()
        if not torch.compiler.is_compiling() and not self.centroids.any():  # to look would break the graph
            raise ValueError("the router has no centroids to compare with; call set_centroids or pass them.")
        return self.centroids

    def _check(self, question_emb: Tensor, steering_emb: Tensor | None) -> None:
        if question_emb.shape[-1] != self.embedding_dim:
            raise ValueError(f"questions of width {question_emb.shape[-1]} for a router of width {self.embedding_dim}.")
        if steering_emb is not None and steering_emb.shape != question_emb.shape:
            raise ValueError(f"steering {list(steering_emb.shape)} for questions {list(question_emb.shape)}.")


def _described(weights: Tensor, entropies: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """One dict for each row of weights [n, K] and its entropy [n]."""
    confidences, primary = weights.max(dim=-1)
    rows = zip(weights.tolist(), primary.tolist(), confidences.tolist(), entropies.tolist(), strict=True)
    return [
        {
            "routing_weights": row,
            "primary_subspace": names[first],
            "primary_confidence": confidence,
            "entropy": entropy,
        }
        for row, first, confidence, entropy in rows
    ]
