"""How far a batch of embeddings is from an isotropic Gaussian: SIGReg in closed form or over slices, and covariance.

The Epps-Pulley statistic of n numbers against N(0, 1), weighted by a Gaussian (LeJEPA, arXiv:2511.08544), is

    T = n * integral over t of |phi_n(t) - exp(-t^2/2)|^2 exp(-t^2/2) dt,   phi_n(t) = mean_i exp(i t x_i)

SIGReg averages it over the projections u . x of the rows on random directions u of unit length. Its expectation over
all directions needs no sampling. With E_u cos(t u . y) = exp(-t^2 |y|^2 / (2 d)) the integral is elementary:

    T = n sqrt(2 pi) [ mean_ij k_1(|x_i - x_j|^2) - 2 mean_i k_2(|x_i|^2) + 3^-1/2 ],   k_a(s) = (a + s/d)^-1/2

That expectation is exact for u ~ N(0, I/d), whose length varies by 1/sqrt(2 d); the statistic of truly Gaussian rows
then grows by .24 n/d (1.75 instead of 1.06 at n = 1,024, d = 384), which no training can remove. The length has mean
square 1 and the variance of its square is 2/d, so a Taylor step takes it back to directions of unit length, up to
O(d^-2):

    k_a(s) = (a + z)^-1/2 - 3/(4 d) z^2 (a + z)^-5/2,   z = s/d

Every T is about 1.059 = sqrt(2 pi) (1 - 3^-1/2) for Gaussian rows at any n and d, .409 n for rows that have collapsed
into the origin. Rows of unit length look collapsed; multiplied by sqrt(d) they do not.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jasper_rag.losses.gathering import gather_rows
from jasper_rag.losses.memory_queue import MemoryQueue
from jasper_rag.losses.unit_rows import full_precision, widened

IsotropyKind = Literal["closed", "sliced", "covariance"]

SIGREG_NULL = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
"""T of rows that are truly Gaussian, in expectation: 1.0594."""

_ROWS_AT_ONCE = 256
"""Rows whose distances to all others are held at a time; a block of 256 x 1,024 numbers is a megabyte."""

_SLICES_AT_ONCE = 64
"""Projections whose cosines [n, slices, points] are held at a time before they are averaged."""


def sigreg_closed(rows: Tensor) -> Tensor:
    """T over all directions, from the distances between rows; O(n^2 d). See the module.

    Args:
        rows: [n, d], of root mean square 1 where isotropic (|x|^2 = d).

    Returns:
        Scalar of at least float32: about 1.059 for Gaussian rows, .409 n for rows of zero.
    """
    with full_precision(rows):
        wide = widened(rows)
        pairs: Tensor = _MeanKernel.apply(wide)  # type: ignore[no-untyped-call]
        count, width = wide.shape
        lengths = _kernel(wide.square().sum(dim=1) / width, 2.0, width)[0].mean()
        return count * math.sqrt(2 * math.pi) * (pairs - 2 * lengths + 1 / math.sqrt(3))


def sigreg_sliced(
    rows: Tensor, slices: int = 256, generator: torch.Generator | None = None, t_max: float = 3.0, points: int = 17
) -> Tensor:
    """T averaged over random directions, the integral by the trapezoid rule over [0, t_max], doubled.

    Args:
        rows: [n, d].
        slices: Directions, drawn anew at every call.
        generator: Of the directions, on the CPU; ranks that share a batch need equal ones.
        t_max: Where the integral ends.
        points: Of the trapezoid rule; the cosines and sines take n * slices * points numbers of memory.

    Raises:
        ValueError: Without a slice or with fewer than two points.
    """
    if slices < 1 or points < 2:
        raise ValueError(f"SIGReg needs a slice and two points, got {slices} and {points}.")
    with full_precision(rows):
        wide = widened(rows)
        directions = torch.randn(wide.shape[1], slices, generator=generator, dtype=torch.float64)
        directions = directions / torch.linalg.vector_norm(directions, dim=0)
        times = torch.linspace(0, t_max, points, dtype=wide.dtype, device=wide.device)
        weights = torch.full_like(times, 2 * t_max / (points - 1))
        weights[0] = weights[-1] = t_max / (points - 1)
        normal = torch.exp(-times.square() / 2)
        total = wide.new_zeros(())
        for projections in (wide @ directions.to(wide)).split(_SLICES_AT_ONCE, dim=1):
            angles = projections.unsqueeze(2) * times
            gap = (angles.cos().mean(dim=0) - normal).square() + angles.sin().mean(dim=0).square()
            total = total + (gap @ (weights * normal)).sum()
        return len(wide) * total / slices


def covariance_isotropy(rows: Tensor) -> Tensor:
    """Unevenness of the spectrum about the mean, and the weight of the mean; the same at any scale of the rows.

        U = d tr(C^2) / tr(C)^2 - 1,   m = |mean|^2 / (|mean|^2 + tr C),   loss = U - d / (n - 1) + d m^2

    U is John's statistic (Ledoit and Wolf 2002), d over the participation ratio of the centred covariance C, less 1;
    d / (n - 1) is about what it is for n isotropic rows. Since C knows nothing of the mean, a batch in which all rows
    are nearly one would seem isotropic: m, the mean cosine of such rows, stands for that.

    Args:
        rows: [n, d], n of at least 2.

    Returns:
        Scalar: about 0 for isotropic rows, d for a batch that has collapsed.

    Raises:
        ValueError: A single row has no covariance.
    """
    if len(rows) < 2:
        raise ValueError(f"a covariance needs two rows, got {len(rows)}.")
    with full_precision(rows):
        wide = widened(rows)
        count, width = wide.shape
        mean = wide.mean(dim=0)
        centred = wide - mean
        # X^T X and X X^T have the same trace and the same sum of squares: the smaller one will do.
        products = (centred.T @ centred if count > width else centred @ centred.T) / (count - 1)
        tiny = torch.finfo(wide.dtype).tiny
        trace = centred.square().sum() / (count - 1)
        uneven = width * products.square().sum() / trace.square().clamp_min(tiny) - 1
        cone = mean.square().sum() / (mean.square().sum() + trace).clamp_min(tiny)
        return uneven - width / (count - 1) + width * cone.square()


class IsotropyLoss(nn.Module):
    """One side's distance from an isotropic Gaussian, over the rows of all ranks and those of a queue.

    Args:
        kind: "closed" or "sliced" (T less its value for Gaussian rows), or "covariance".
        dimension: d.
        queue_size: Rows of earlier batches that are judged together with the new ones; 0 for none. At fewer than about
            1,000 rows T sees the mean and the scale, hardly the spectrum.
        slices: Directions of "sliced".
        seed: Of these directions. They depend on it and on the number of the step only, so they are the same on all
            ranks and after resuming.

    Raises:
        ValueError: An unknown kind, or a negative queue.
    """

    def __init__(
        self,
        kind: IsotropyKind = "closed",
        dimension: int = 0,
        *,
        queue_size: int = 0,
        slices: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if kind not in ("closed", "sliced", "covariance"):
            raise ValueError(f"the kind of isotropy must be closed, sliced or covariance, got {kind!r}.")
        self.kind: IsotropyKind = kind
        self.slices, self.seed = slices, seed
        self.queue = MemoryQueue(queue_size, dimension) if queue_size else None
        self._step = 0

    def forward(self, rows: Tensor) -> Tensor:
        """Scalar with gradient, about 0 where isotropic. In training the queue takes the rows in.

        Args:
            rows: [B, d] of this rank.
        """
        with full_precision(rows):
            joint = gather_rows(widened(rows))
            learning = self.training and torch.is_grad_enabled()
            judged = joint if self.queue is None else self.queue.joined(joint)
            if self.queue is not None and learning:
                self.queue.push(joint)
            loss = self._judge(judged)
            self._step += learning
            return loss

    def _judge(self, rows: Tensor) -> Tensor:
        if self.kind == "covariance":
            return covariance_isotropy(rows) if len(rows) > 1 else 0 * rows.sum()
        if self.kind == "closed":
            return sigreg_closed(rows) - SIGREG_NULL
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self._step) % 2**63)
        return sigreg_sliced(rows, self.slices, generator) - SIGREG_NULL

    def get_extra_state(self) -> int:
        """Steps so far, which the directions go by."""
        return self._step

    def set_extra_state(self, state: int) -> None:
        """Go on after so many steps."""
        self._step = int(state)


def _kernel(scaled: Tensor, start: float, width: int) -> tuple[Tensor, Tensor]:
    """k_a(s) and its derivative d k_a / d z at z = s/d; see the module.

    With r = (a + z)^-1/2 and p = z r^2: k = r (1 - 3/(4 d) p^2),  dk/dz = r^3 (-1/2 - 3/(4 d) p (2 - 5/2 p)).
    """
    root = (start + scaled).rsqrt()
    square = root.square()
    share = scaled * square
    ratio = 0.75 / width
    value = root * (1 - ratio * share.square())
    # In place, for this is done for every pair of rows.
    slope = share.mul(2.5 * ratio).sub_(2 * ratio).mul_(share).sub_(0.5).mul_(square).mul_(root)
    return value, slope


class _MeanKernel(torch.autograd.Function):
    """mean_ij k_1(|x_i - x_j|^2), a block of rows at a time: value and gradient are made while the block is in cache.

    Of k = k_1 at z = s/d the gradient with respect to x_i is 4 / (n^2 d) sum_j k'(z_ij) (x_i - x_j). Memory is
    O(n (d + block)) instead of the eight [n, n] matrices that autograd would keep.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        count, width = rows.shape
        squares = rows.square().sum(dim=1)
        learns = ctx.needs_input_grad[0]
        pulled = torch.empty_like(rows) if learns else None
        total = rows.new_zeros(())
        for start in range(0, count, _ROWS_AT_ONCE):
            block = slice(start, min(start + _ROWS_AT_ONCE, count))
            own = rows[block]
            scaled = torch.addmm(squares[block].unsqueeze(1) + squares, own, rows.T, alpha=-2.0)
            scaled.clamp_min_(0).div_(width)
            scaled.diagonal(start).fill_(0.0)
            value, slope = _kernel(scaled, 1.0, width)
            total += value.sum()
            if pulled is not None:
                pulled[block] = slope.sum(dim=1, keepdim=True) * own - slope @ rows
        ctx.save_for_backward(pulled)
        ctx.factor = 4 / (count * count * width)
        return total / (count * count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (pulled,) = ctx.saved_tensors
        gradient: Tensor = pulled * (gradients[0] * ctx.factor)
        return gradient
