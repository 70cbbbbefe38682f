"""The weighted sum of the routing losses, with the names that the `routing_loss` section of a configuration uses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jasper_rag.losses.routing_losses import DisentanglementLoss, EntropyRegularization, ResidualPenalty, RoutingLoss


class RoutingObjective(nn.Module):
    """Sum of the four losses, each weighted once. A term of weight 0 is not computed and its names are absent.

    The weights `lambda_...` are attributes and may be changed between steps. The total is the same in training and in
    validation.

    Args:
        lambda_routing: Weight of `RoutingLoss`.
        lambda_entropy: Weight of `EntropyRegularization`.
        lambda_residual: Weight of `ResidualPenalty`.
        lambda_disentangle: Weight of `DisentanglementLoss`.
        routing_label_smoothing: label_smoothing of `RoutingLoss`.
        entropy_high: Of `EntropyRegularization`, as the next two and the last.
        entropy_low: Target from `anneal_epochs` on, in nats.
        anneal_epochs: Epochs until the low target.
        residual_margin: margin of `ResidualPenalty`.
        num_subspaces: K, where it is known before the first batch.

    Raises:
        ValueError: A weight is negative, or a term's own argument is wrong.
    """

    def __init__(
        self,
        lambda_routing: float = 1.0,
        lambda_entropy: float = 0.1,
        lambda_residual: float = 0.1,
        lambda_disentangle: float = 0.01,
        routing_label_smoothing: float = 0.0,
        entropy_high: float | None = None,
        entropy_low: float = 0.1,
        anneal_epochs: int = 20,
        residual_margin: float = 1.0,
        *,
        num_subspaces: int | None = None,
    ) -> None:
        super().__init__()
        self.lambda_routing = lambda_routing
        self.lambda_entropy = lambda_entropy
        self.lambda_residual = lambda_residual
        self.lambda_disentangle = lambda_disentangle
        for name in ("lambda_routing", "lambda_entropy", "lambda_residual", "lambda_disentangle"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        # The terms themselves weigh 1: the lambdas are the only weights.
        self.routing = RoutingLoss(1.0, routing_label_smoothing)
        self.entropy = EntropyRegularization(entropy_high, entropy_low, anneal_epochs, 1.0, num_subspaces=num_subspaces)
        self.residual = ResidualPenalty(residual_margin, 1.0)
        self.disentanglement = DisentanglementLoss(1.0)

    def forward(
        self,
        routing_logits: Tensor,
        routing_weights: Tensor,
        fine_vector: Tensor,
        cluster_ids: Tensor,
        epoch: float,
        *,
        sample_weight: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and all numbers by name.

        Args:
            routing_logits: [B, K], with gradient, as the next two.
            routing_weights: [B, K], rows that sum to 1.
            fine_vector: [B, D].
            cluster_ids: int64 [B], the true topics.
            epoch: Counted from 0.
            sample_weight: [B] non-negative, of `RoutingLoss`; equal when None.

        Returns:
            The total with gradient (a plain 0 where every weight is 0), and {"routing", "routing_acc", "entropy_reg",
            "routing_entropy", "residual_penalty", "residual_norm_mean", "disentanglement"}: scalars, detached and
            unweighted.

        Raises:
            ValueError: The shapes do not belong together.
        """
        if routing_logits.shape != routing_weights.shape:
            raise ValueError(
                f"routing weights {list(routing_weights.shape)} for routing logits {list(routing_logits.shape)}."
            )
        if fine_vector.shape[:1] != routing_logits.shape[:1]:
            raise ValueError(f"fine vectors {list(fine_vector.shape)} for routing logits {list(routing_logits.shape)}.")
        total: list[Tensor] = []
        numbers: dict[str, Tensor] = {}

        def add(name: str, factor: float, found: Mapping[str, Tensor]) -> None:
            total.append(factor * found[name])
            numbers.update({key: value.detach() for key, value in found.items()})

        if self.lambda_routing:
            add("routing", self.lambda_routing, self.routing(routing_logits, cluster_ids, sample_weight=sample_weight))
        if self.lambda_entropy:
            add("entropy_reg", self.lambda_entropy, self.entropy(routing_weights, epoch))
        if self.lambda_residual:
            add("residual_penalty", self.lambda_residual, self.residual(fine_vector))
        if self.lambda_disentangle:
            add("disentanglement", self.lambda_disentangle, self.disentanglement(routing_weights))
        if not total:
            return torch.zeros((), device=routing_logits.device), numbers
        return torch.stack(total).sum(), numbers
