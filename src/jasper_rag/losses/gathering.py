"""One batch out of the batches of all ranks, so that N processes learn what one with the whole batch would.

With DDP each rank's gradient is averaged: grad = 1/W sum_r grad(L_r). A loss is therefore written so that the mean of
L_r over the W ranks is the loss of the joint batch: rows that other rows are compared with are gathered
(`gather_rows`), means are taken over the weight of all ranks (`over_all_ranks`). Every rank must hold the same number
of rows. Without gradient (validation, possibly on one rank only) a batch stands for itself and nothing is sent.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, distributed

Reduction = Literal["mean", "sum"]


def ranks() -> int:
    """Processes whose batches make up the joint batch; 1 without a process group and without gradient."""
    if torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def first_row(rows: int) -> int:
    """Where this rank's `rows` rows begin in the joint batch."""
    return distributed.get_rank() * rows if ranks() > 1 else 0


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks in rank order, [W * B, ...]; the gradient of every rank's loss comes back to its owner."""
    if ranks() == 1:
        return rows
    if not rows.requires_grad:
        return _all_gather(rows)
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def over_all_ranks(mean: Tensor, weight: Tensor | None, reduction: Reduction, rows: int) -> Tensor:
    """Turn a mean over this rank's rows into its share of the joint mean, or of the joint sum.

    Args:
        mean: Scalar, the weighted mean over the local rows.
        weight: [B] as used for `mean`; None for equal weights.
        reduction: "mean" or "sum" over the rows of the joint batch.
        rows: B.

    Returns:
        Scalar whose mean over all ranks is the joint mean or sum.
    """
    count = ranks()
    if reduction == "sum":
        return mean * (count * (rows if weight is None else weight.sum()))
    if count == 1 or weight is None:
        return mean
    own = weight.detach().sum()
    everyones = own.clone()
    distributed.all_reduce(everyones)
    return mean * (count * own / everyones.clamp_min(torch.finfo(everyones.dtype).tiny))


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of `values` [B]; weights of zero only give 0."""
    if weight is None:
        return values.mean()
    return torch.dot(values, weight) / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def check_reduction(reduction: str) -> None:
    """Raise a ValueError unless `reduction` is "mean" or "sum"."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}.")


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        return _all_gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        start = distributed.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows]


def _all_gather(rows: Tensor) -> Tensor:
    rows = rows.detach().contiguous()
    pieces = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(pieces, rows)
    return torch.cat(pieces)
