"""Losses of the subspace router and of the fine part that it leaves over.

All of them need tensors with gradient: given a detached explanation they teach nothing. Where a loss is not a mean of
its rows, the rows are those of the joint batch of all ranks. Nothing in here waits for the device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.losses.gathering import gather_rows, over_all_ranks, weighted_mean
from jasper_rag.losses.unit_rows import full_precision, widened


class RoutingLoss(nn.Module):
    """Cross-entropy of the true topic under the router's logits.

    Args:
        weight: Factor of the loss; at 0 nothing is computed and the answer is empty.
        label_smoothing: Share of the target that is spread evenly over all K subspaces, in [0, 1).

    Raises:
        ValueError: The weight is negative or the smoothing out of range.
    """

    def __init__(self, weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        _check_at_least_zero("weight", weight)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
        self.weight = weight
        self.label_smoothing = label_smoothing

    def forward(
        self, routing_logits: Tensor, true_cluster_ids: Tensor, *, sample_weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Loss in nats and, detached, the share of rows whose highest logit is the true topic's.

        Args:
            routing_logits: [B, K], with gradient.
            true_cluster_ids: int64 [B], 0 to K - 1.
            sample_weight: [B] non-negative, for both numbers; equal when None.

        Returns:
            {"routing", "routing_acc"}, scalars; the accuracy without the weight.

        Raises:
            ValueError: The shapes do not belong together.
        """
        if not self.weight:
            return {}
        _check_rows("routing logits", routing_logits)
        rows = routing_logits.shape[:1]
        if true_cluster_ids.shape != rows:
            raise ValueError(f"cluster ids {list(true_cluster_ids.shape)} for routing logits {_shape(routing_logits)}.")
        if sample_weight is not None and sample_weight.shape != rows:
            raise ValueError(f"sample weights {list(sample_weight.shape)} for routing logits {_shape(routing_logits)}.")
        with full_precision(routing_logits):
            logits = widened(routing_logits)
            weight = None if sample_weight is None else sample_weight.to(logits)
            each = functional.cross_entropy(
                logits, true_cluster_ids, reduction="none", label_smoothing=self.label_smoothing
            )
            right = (logits.detach().argmax(dim=1) == true_cluster_ids).to(logits)
            loss, accuracy = (
                over_all_ranks(weighted_mean(values, weight), weight, "mean", len(logits)) for values in (each, right)
            )
            return {"routing": self.weight * loss, "routing_acc": accuracy}


class EntropyRegularization(nn.Module):
    """Holds the routing entropy to a target that falls: many subspaces are tried early, few are chosen late.

        L = (1/B sum_b H(w_b) - H*)^2,   H(w) = -sum_k w_k log w_k,   H*(e) = high + (low - high) min(e / E, 1)

    The mean is over the rows of all ranks. K is learnt from the first batch unless it is given, and is part of the
    state, so that a resumed run goes on with the schedule it began with.

    Args:
        entropy_high: Target at epoch 0 in nats; log K when None. Above log K it cannot be reached.
        entropy_low: Target from `anneal_epochs` on, in nats.
        anneal_epochs: E, epochs until the low target; 0 starts with it.
        weight: Factor of the loss; at 0 nothing is computed and the answer is empty.
        eps: The smallest weight whose logarithm is taken; bounds the gradient at weights of 0.
        num_subspaces: K.

    Raises:
        ValueError: A number is out of range, or the low target above the high one.
    """

    subspace_count: Tensor

    def __init__(
        self,
        entropy_high: float | None = None,
        entropy_low: float = 0.1,
        anneal_epochs: int = 20,
        weight: float = 0.1,
        eps: float = 1e-8,
        *,
        num_subspaces: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("entropy_low", entropy_low), ("anneal_epochs", anneal_epochs), ("weight", weight)):
            _check_at_least_zero(name, value)
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps}.")
        self.entropy_high = entropy_high
        self.entropy_low = entropy_low
        self.anneal_epochs = anneal_epochs
        self.weight = weight
        self.eps = eps
        # K twice: a number for the schedule, as reading a tensor would wait for its device; a tensor for the state.
        self.register_buffer("subspace_count", torch.zeros((), dtype=torch.int64))
        self._num_subspaces: int | None = None
        if num_subspaces is not None:
            self._learn(num_subspaces)
        elif entropy_high is not None:
            self._check_order(entropy_high)

    @property
    def num_subspaces(self) -> int | None:
        """K, or None before it is known."""
        return self._num_subspaces

    def get_target_entropy(self, epoch: float) -> float:
        """H* of an epoch, counted from 0, in nats.

        Raises:
            ValueError: The epoch is negative, or the high target is log K and K not known yet.
        """
        _check_at_least_zero("epoch", epoch)
        high = self.entropy_high
        if high is None:
            if self._num_subspaces is None:
                raise ValueError(
                    "the high target is log K and K is not known before the first batch; "
                    "give num_subspaces or entropy_high."
                )
            high = math.log(self._num_subspaces)
        done = min(epoch / self.anneal_epochs, 1.0) if self.anneal_epochs else 1.0
        return high * (1 - done) + self.entropy_low * done

    def forward(self, routing_weights: Tensor, current_epoch: float) -> dict[str, Tensor]:
        """Loss and, detached, the mean entropy in nats.

        Args:
            routing_weights: [B, K], rows that sum to 1, with gradient.
            current_epoch: Counted from 0.

        Returns:
            {"entropy_reg", "routing_entropy"}, scalars.

        Raises:
            ValueError: The shape is wrong, K is not that of before, or the epoch is negative.
        """
        if not self.weight:
            return {}
        _check_rows("routing weights", routing_weights)
        self._learn(routing_weights.shape[1])
        with full_precision(routing_weights):
            weights = widened(routing_weights)
            entropies = -(weights * weights.clamp_min(self.eps).log()).sum(dim=1)
            # The square of a mean is no mean of squares: the rows of all ranks are needed before it is taken.
            entropy = gather_rows(entropies).mean()
            loss = self.weight * (entropy - self.get_target_entropy(current_epoch)).square()
            return {"entropy_reg": loss, "routing_entropy": entropy.detach()}

    def _learn(self, count: int) -> None:
        if self._num_subspaces == count:
            return
        if self._num_subspaces is not None:
            raise ValueError(f"routing weights over {count} subspaces; there are {self._num_subspaces}.")
        if not count >= 2:
            raise ValueError(f"routing needs at least 2 subspaces, got {count}.")
        self._check_order(math.log(count) if self.entropy_high is None else self.entropy_high)
        self._num_subspaces = count
        self.subspace_count.fill_(count)

    def _check_order(self, high: float) -> None:
        if not self.entropy_low <= high:
            raise ValueError(f"entropy_low must not be above the high target, got {self.entropy_low} and {high}.")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """K of the state; one that differs from the known K is an error like a wrong shape, an unknown one is not."""
        stored = int(state_dict.get(f"{prefix}subspace_count", 0))
        error_messages: list[str] = others[-1]
        if stored:
            try:
                self._learn(stored)
            except ValueError as error:
                error_messages.append(f"{prefix}subspace_count: {error}")
                return
        known = self._num_subspaces or 0
        super()._load_from_state_dict(state_dict, prefix, *others)
        # A new tensor: the loaded one may be the caller's own.
        self.subspace_count = torch.full_like(self.subspace_count, known)


class ResidualPenalty(nn.Module):
    """Keeps the fine part short, so that the coarse one explains what it can: mean_b max(0, |f_b| - margin).

    Args:
        margin: Length that costs nothing.
        weight: Factor of the loss; at 0 nothing is computed and the answer is empty.

    Raises:
        ValueError: A number is negative.
    """

    def __init__(self, margin: float = 1.0, weight: float = 0.1) -> None:
        super().__init__()
        _check_at_least_zero("margin", margin)
        _check_at_least_zero("weight", weight)
        self.margin = margin
        self.weight = weight

    def forward(self, fine_vector: Tensor) -> dict[str, Tensor]:
        """{"residual_penalty", "residual_norm_mean"} of fine parts [B, D]; the mean length is detached.

        Raises:
            ValueError: The shape is wrong.
        """
        if not self.weight:
            return {}
        _check_rows("fine vectors", fine_vector)
        with full_precision(fine_vector):
            lengths = torch.linalg.vector_norm(widened(fine_vector), dim=1)
            penalty = functional.relu(lengths - self.margin).mean()
            return {"residual_penalty": self.weight * penalty, "residual_norm_mean": lengths.detach().mean()}


class DisentanglementLoss(nn.Module):
    """Subspaces that are not used together: 1/K sum_{j != k} Cov_jk(w)^2 over the rows of all ranks.

    Rows that sum to 1 have Cov rows that sum to 0, hence the loss is 0 only for a router that never changes its mind; a
    sure router that uses all subspaces equally has (K - 1) / K^4 (for many rows), one that uses two only 1 / (8 K).

    Args:
        weight: Factor of the loss; at 0 nothing is computed and the answer is empty.
        eps: Taken because configurations name it; nothing is divided by, so nothing depends on it.

    Raises:
        ValueError: A number is negative.
    """

    def __init__(self, weight: float = 0.01, eps: float = 1e-4) -> None:
        super().__init__()
        _check_at_least_zero("weight", weight)
        _check_at_least_zero("eps", eps)
        self.weight = weight
        self.eps = eps

    def forward(self, routing_weights: Tensor) -> dict[str, Tensor]:
        """{"disentanglement"} of routing weights [B, K]; 0 for a joint batch of one row.

        Raises:
            ValueError: The shape is wrong.
        """
        if not self.weight:
            return {}
        _check_rows("routing weights", routing_weights)
        with full_precision(routing_weights):
            rows = gather_rows(widened(routing_weights))
            if len(rows) < 2:
                return {"disentanglement": 0 * rows.sum()}
            centred = rows - rows.mean(dim=0)
            covariance = centred.T @ centred / (len(rows) - 1)
            shared = covariance - covariance.diagonal().diag()
            return {"disentanglement": self.weight * shared.square().sum() / rows.shape[1]}


def _check_at_least_zero(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must not be negative, got {value}.")


def _check_rows(name: str, rows: Tensor) -> None:
    if rows.ndim != 2 or not rows.numel():
        raise ValueError(f"{name} must be a matrix of at least 1 x 1, got {_shape(rows)}.")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
