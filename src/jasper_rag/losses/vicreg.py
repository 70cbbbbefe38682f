"""VICReg (arXiv:2105.04906): predictions that vary, match their targets, and whose coordinates tell different things.

    v = mean_d max(0, gamma - sqrt(Var_d(p) + eps)),   i = SmoothL1(p, t),   c = 1/D sum_{d != e} Cov_de(p)^2
    L = lambda_v v + lambda_i i + lambda_c c

A unit vector of D coordinates has a variance of 1/D per coordinate, so gamma = 1 could never be reached; vectors are
therefore multiplied by sqrt(D) first, which makes v lie between 0 (spread out) and about gamma (all the same).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jasper_rag.losses.gathering import gather_rows
from jasper_rag.losses.unit_rows import full_precision, widened


class VICRegLoss(nn.Module):
    """Variance and covariance of the predictions of all ranks, distance to the targets; see above.

    Args:
        lambda_v: Weight of the variance term; a term of weight 0 is not computed.
        lambda_i: Weight of the invariance term.
        lambda_c: Weight of the covariance term.
        gamma: Standard deviation from which a coordinate costs nothing.
        eps: Added to the variance, whose root then has a gradient at 0.
        scale: Multiply by sqrt(D) first. False: the equation as it stands, for vectors that are not of unit length.

    Raises:
        ValueError: A weight is negative.
    """

    def __init__(
        self,
        lambda_v: float = 25.0,
        lambda_i: float = 25.0,
        lambda_c: float = 1.0,
        gamma: float = 1.0,
        eps: float = 1e-4,
        *,
        scale: bool = True,
    ) -> None:
        super().__init__()
        if not min(lambda_v, lambda_i, lambda_c) >= 0:
            raise ValueError(f"VICReg weights must not be negative, got {lambda_v}, {lambda_i} and {lambda_c}.")
        self.lambda_v, self.lambda_i, self.lambda_c = lambda_v, lambda_i, lambda_c
        self.gamma, self.eps, self.scale = gamma, eps, scale

    def forward(self, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The weighted sum, with gradient, and its terms, unweighted and detached.

        Args:
            predicted: [B, D]; with a joint batch of one row variance and covariance are 0.
            target: [B, D].

        Returns:
            {"vicreg", "vicreg_v", "vicreg_i", "vicreg_c"}, scalars; terms of weight 0 are absent.

        Raises:
            ValueError: The shapes differ.
        """
        if predicted.shape != target.shape:
            raise ValueError(f"predictions {list(predicted.shape)} for targets {list(target.shape)}.")
        with full_precision(predicted):
            factor = math.sqrt(predicted.shape[1]) if self.scale else 1.0
            prediction = widened(predicted) * factor
            weighted: list[Tensor] = []
            terms: dict[str, Tensor] = {}
            if self.lambda_v or self.lambda_c:
                variance, redundancy = self._spread(gather_rows(prediction))
                weighted += [self.lambda_v * variance, self.lambda_c * redundancy]
                terms |= {"vicreg_v": variance.detach()} if self.lambda_v else {}
                terms |= {"vicreg_c": redundancy.detach()} if self.lambda_c else {}
            if self.lambda_i:
                invariance = functional.smooth_l1_loss(prediction, widened(target) * factor)
                weighted.append(self.lambda_i * invariance)
                terms["vicreg_i"] = invariance.detach()
            total = torch.stack(weighted).sum() if weighted else 0 * prediction.sum()
            return {"vicreg": total, **terms}

    def _spread(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Variance and covariance terms of [N, D]; both 0 where a single row does not vary."""
        if len(rows) < 2:
            return 0 * rows.sum(), 0 * rows.sum()
        terms: tuple[Tensor, Tensor] = _Spread.apply(  # type: ignore[no-untyped-call]
            rows, self.gamma, self.eps, self.lambda_c > 0
        )
        return terms


class _Spread(torch.autograd.Function):
    """Variance and covariance terms of [N, D] with N >= 2.

    Autograd's own composition makes the second product twice and passes over [N, D] a dozen times more: at N = 512 and
    D = 384 this takes two thirds of its time on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gamma: float, eps: float, with_covariance: bool) -> tuple[Tensor, Tensor]:
        count, width = rows.shape
        ctx.gamma = gamma
        centred = rows - rows.mean(dim=0)
        variances = centred.square().sum(dim=0) / (count - 1)
        deviations = (variances + eps).sqrt()
        spread = functional.relu(gamma - deviations).mean()
        if not with_covariance:
            ctx.save_for_backward(centred, variances, deviations, None)
            return spread, torch.zeros_like(spread)
        # X^T X and X X^T have the same sum of squares: the smaller one will do.
        products = (centred.T @ centred if count > width else centred @ centred.T).div_(count - 1)
        ctx.save_for_backward(centred, variances, deviations, products)
        redundancy = (products.square().sum() - variances.square().sum()) / width
        return spread, redundancy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_spread, to_redundancy = gradients
        centred, variances, deviations, products = ctx.saved_tensors
        count, width = centred.shape
        # Columns of `centred` sum to 0, and so do those of its gradient: the mean needs no term of its own.
        by_variance = (deviations < ctx.gamma) * (-0.5 / width) / deviations * to_spread
        if products is None:
            return centred * (by_variance * (2 / (count - 1))), None, None, None
        by_variance = by_variance - variances * (2 / width * to_redundancy)
        gradient = centred @ products if count > width else products @ centred
        gradient.mul_(2 / width * to_redundancy).addcmul_(centred, by_variance)
        return gradient.mul_(2 / (count - 1)), None, None, None
