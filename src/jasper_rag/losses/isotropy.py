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

_ROWS_AT_ONCE = 128
"""Rows whose distances to all others are held at a time; a block of 128 x 1,024 numbers is half a megabyte."""

_SLICES_AT_ONCE = 64
"""Projections whose cosines [n, slices, points] are held at a time before they are averaged."""


def sigreg_closed(rows: Tensor, learning: int | None = None) -> Tensor:
    """T over all directions, from the distances between rows; O(n^2 d). See the module.

    Args:
        rows: [n, d], of root mean square 1 where isotropic (|x|^2 = d).
        learning: So many of the first rows have a gradient, the others are constants; None: all have.

    Returns:
        Scalar of at least float32: about 1.059 for Gaussian rows, .409 n for rows of zero.
    """
    with full_precision(rows):
        wide = widened(rows)
        count = len(wide)
        learning = count if learning is None else learning
        pairs: Tensor = _MeanPairKernel.apply(wide, learning)  # type: ignore[no-untyped-call]
        lengths = _mean_length_kernel(wide)
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
            loss = self._judge(judged, len(joint))
            self._step += learning
            return loss

    def _judge(self, rows: Tensor, new: int) -> Tensor:
        if self.kind == "covariance":
            return covariance_isotropy(rows) if len(rows) > 1 else 0 * rows.sum()
        if self.kind == "closed":
            return sigreg_closed(rows, new) - SIGREG_NULL
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self._step) % 2**63)
        return sigreg_sliced(rows, self.slices, generator) - SIGREG_NULL

    def get_extra_state(self) -> int:
        """Steps so far, which the directions go by."""
        return self._step

    def set_extra_state(self, state: int) -> None:
        """Go on after so many steps."""
        self._step = int(state)


def _mean_length_kernel(rows: Tensor) -> Tensor:
    """mean_i k_2(|x_i|^2); see the module."""
    width = rows.shape[1]
    scaled = rows.square().sum(dim=1) / width
    root = (2.0 + scaled).rsqrt()
    return (root - 0.75 / width * scaled.square() * root**5).mean()


class _MeanPairKernel(torch.autograd.Function):
    """mean_ij k_1(|x_i - x_j|^2) with a gradient for the first rows alone, a block of rows at a time.

    With q = 1/(1 + z), z = |x_i - x_j|^2 / d and c = 3/(4 d) both are q^(1/2) times a polynomial in q:

        k_1 = q^(1/2) (1 - c (1 - q)^2),   d k_1 / d z = q^(3/2) ((c - 1)/2 - 3 c q + 5/2 c q^2)

    and the gradient with respect to x_i is 4 / (n^2 d) sum_j k_1'(z_ij) (x_i - x_j). Both are made while a block is in
    the processor's cache; memory is O(n (d + block)) where autograd would keep eight [n, n] matrices.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, learning: int) -> Tensor:
        count, width = rows.shape
        scaled = rows / math.sqrt(width)
        halves = scaled.square().sum(dim=1) + 0.5
        # Where nobody asks for a gradient all rows are as those of the queue.
        learning = learning if ctx.needs_input_grad[0] else 0
        pulled = torch.zeros_like(rows)
        total = rows.new_zeros(())
        for start in range(0, learning, _ROWS_AT_ONCE):
            block = slice(start, min(start + _ROWS_AT_ONCE, learning))
            root = _roots(scaled[block], halves[block], scaled, halves, start)
            square = root * root
            values, slopes = _values(root, square, width), _slopes(root, square, width)
            # Pairs of a new and an old row stand in the matrix of all pairs twice.
            total += values.sum() + values[:, learning:].sum()
            pulled[block] = slopes.sum(dim=1, keepdim=True) * rows[block] - slopes @ rows
        old, old_halves = scaled[learning:], halves[learning:]
        for start in range(0, len(old), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            root = _roots(old[block], old_halves[block], old, old_halves, start)
            total += _values(root, root * root, width).sum()
        ctx.save_for_backward(pulled)
        ctx.factor = 4 / (count * count * width)
        return total / (count * count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (pulled,) = ctx.saved_tensors
        return pulled * (gradients[0] * ctx.factor), None


def _roots(own: Tensor, own_halves: Tensor, others: Tensor, halves: Tensor, diagonal: int) -> Tensor:
    """q^(1/2) = (1 + z)^(-1/2) of a block of rows and others, which contain the block from row `diagonal` on."""
    root = torch.addmm(own_halves.unsqueeze(1) + halves, own, others.T, alpha=-2.0)
    root.diagonal(diagonal).fill_(1.0)
    return root.clamp_min_(1.0).rsqrt_()


def _values(root: Tensor, square: Tensor, width: int) -> Tensor:
    c = 0.75 / width
    inner = torch.add(root.new_tensor(2 * c), square, alpha=-c)
    return torch.addcmul(root.new_tensor(1 - c), square, inner).mul_(root)


def _slopes(root: Tensor, square: Tensor, width: int) -> Tensor:
    c = 0.75 / width
    inner = torch.add(root.new_tensor(-3 * c), square, alpha=2.5 * c)
    return torch.addcmul(root.new_tensor((c - 1) / 2), square, inner).mul_(square).mul_(root)
