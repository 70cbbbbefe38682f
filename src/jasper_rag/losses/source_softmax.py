"""Exact softmax over every train source: the objective that carries the retrieval gain.

All M train sources fit one matrix, so no negative needs to be sampled:

    L = mean_i w_i [ log( exp(z_i,t) + sum_{j not a known positive of i} exp(z_i,j) ) - z_i,t ],   z = P S^T / T

where P [B, D] are predictions, S [M, D] the sources, t the target of row i and T the temperature. It is InfoNCE
(arXiv:1807.03748) with the whole train split as negatives and every other known positive masked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _SourceSoftmax(torch.autograd.Function):
    """Forward keeps no [B, M] copy beside the one it turns into the gradient in place.

    Autograd's own composition (matmul, masked_fill, log_softmax) holds four [B, M] tensors; at B = 512 and
    M = 5,000 that costs more than the products themselves on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        sources: Tensor,
        target: Tensor,
        masked: Tensor,
        share: Tensor,
        scale: float,
        source_gradient: bool,
    ) -> Tensor:
        logits = (prediction * scale) @ sources.T
        rows = torch.arange(len(target), device=target.device)
        wanted = logits[rows, target]
        # Padding (-1) points at the target itself, which is restored right after.
        logits.scatter_(1, torch.where(masked < 0, target.unsqueeze(1), masked), float("-inf"))
        logits[rows, target] = wanted
        top = logits.amax(dim=1, keepdim=True)
        exponentials = logits.sub_(top).exp_()
        total = exponentials.sum(dim=1, keepdim=True)
        # The large numbers cancel first: log(total) would be lost beside a top of thousands.
        losses = total.log().squeeze(1) + (top.squeeze(1) - wanted)
        to_prediction, to_sources = ctx.needs_input_grad[0], source_gradient and ctx.needs_input_grad[1]
        if to_prediction or to_sources:
            gradient = exponentials.div_(total)
            gradient[rows, target] -= 1.0
            factor = (share * scale).unsqueeze(1)
            ctx.save_for_backward(
                (gradient @ sources).mul_(factor) if to_prediction else None,
                gradient.T @ (prediction * factor) if to_sources else None,
            )
        return torch.dot(losses, share)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_prediction, to_sources = (None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors)
        return to_prediction, to_sources, None, None, None, None, None, None


def source_softmax(
    prediction: Tensor,
    sources: Tensor,
    target: Tensor,
    masked: Tensor,
    *,
    temperature: float,
    weight: Tensor | None = None,
    chunk: int = 100_000,
    source_gradient: bool = False,
) -> Tensor:
    """Mean cross-entropy of each prediction against all sources, with gradient to `prediction`.

    Args:
        prediction: [B, D], usually of unit length.
        sources: [M, D] source vectors.
        target: int64 [B], row of the source each prediction should hit.
        masked: int64 [B, P], rows of every known positive of each query; -1 pads. The target may be among them.
        temperature: T > 0; cosines divided by T are the logits.
        weight: [B] non-negative, e.g. graded relevance; equal when None.
        chunk: Above this many sources the batch is cut into pieces so that no [B, M] block exceeds B x `chunk` numbers.
        source_gradient: Gradient flows to `sources` too where they require it, at the price of a third [B, M] product.

    Returns:
        Scalar loss in nats.

    Raises:
        ValueError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    if weight is None:
        weight = prediction.new_ones(len(prediction))
    # Shares of the whole batch: a piece, or a batch, may hold nothing but weights of zero.
    share = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    pieces = max(1, -(-len(sources) // chunk))
    if pieces == 1:
        return _apply(prediction, sources, target, masked, share, temperature, source_gradient)
    loss = prediction.new_zeros(())
    for rows in torch.arange(len(prediction), device=prediction.device).chunk(pieces):
        piece = prediction[rows], sources, target[rows], masked[rows], share[rows]
        loss = loss + _apply(*piece, temperature, source_gradient)
    return loss


def _apply(
    prediction: Tensor,
    sources: Tensor,
    target: Tensor,
    masked: Tensor,
    share: Tensor,
    temperature: float,
    source_gradient: bool,
) -> Tensor:
    loss: Tensor = _SourceSoftmax.apply(  # type: ignore[no-untyped-call]
        prediction, sources, target, masked, share, 1.0 / temperature, source_gradient
    )
    return loss
