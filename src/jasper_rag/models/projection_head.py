"""The trained part of a Gaussian encoder: from the base model's vector to the embedding, starting as the identity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ProjectionHead(nn.Module):
    """y = scale (x P + W_2 gelu(W_1 x + b_1) + b_2), not normalised.

    W_2 and b_2 start at 0 and P as the identity, so an untrained head ranks as the base does: with |x| = 1 and
    scale = sqrt(d) the L2 distance between outputs is sqrt(d) times that between inputs. With d > D zeros are appended.
    With d < D the first d coordinates are taken, until `initialise_from` has seen vectors: the principal directions of
    documents keep much more. P is trained too.

    Args:
        base_dim: D.
        output_dim: d.
        hidden_dim: Width of the hidden layer; 2 D when None.
        scale: sqrt(d) when None, which makes the entries of an isotropic output vary by 1.

    Raises:
        ValueError: A width is not positive.
    """

    def __init__(
        self, base_dim: int, output_dim: int, hidden_dim: int | None = None, scale: float | None = None
    ) -> None:
        super().__init__()
        hidden = 2 * base_dim if hidden_dim is None else hidden_dim
        if min(base_dim, output_dim, hidden) < 1:
            raise ValueError(f"widths of a head must be positive, got {base_dim}, {output_dim} and {hidden}.")
        self.base_dim, self.output_dim, self.hidden_dim = base_dim, output_dim, hidden
        self.scale = math.sqrt(output_dim) if scale is None else float(scale)
        self.linear = nn.Linear(base_dim, output_dim, bias=False)
        self.hidden = nn.Linear(base_dim, hidden)
        self.out = nn.Linear(hidden, output_dim)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs [..., d] of features [..., D].

        Raises:
            ValueError: The features are of another width.
        """
        if features.shape[-1] != self.base_dim:
            raise ValueError(f"features of width {features.shape[-1]} for a head of width {self.base_dim}.")
        mapped: Tensor = self.linear(features) + self.out(functional.gelu(self.hidden(features)))
        return mapped * self.scale

    @torch.no_grad()
    def initialise_from(self, vectors: Tensor) -> float:
        """Where d < D, turn P to the d directions in which the vectors reach furthest; otherwise leave it.

        These are the first eigenvectors of X^T X, not centred, for distances need no centre: of all orthonormal P they
        keep most of the squared lengths (Eckart and Young 1936). P is then scaled so that the mean squared length
        stays what it was.

        Args:
            vectors: [n, D], features of documents.

        Returns:
            The share of the squared lengths that is kept, in (0, 1]; 1 where nothing is cut off.

        Raises:
            ValueError: The vectors are of another shape, or all zero.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.base_dim or not bool(vectors.any()):
            raise ValueError(f"expected non-zero vectors [n, {self.base_dim}], got {list(vectors.shape)}.")
        if self.output_dim >= self.base_dim:
            return 1.0
        wide = vectors.double()
        values, directions = torch.linalg.eigh(wide.T @ wide)
        share = float(values[-self.output_dim :].sum() / values.sum())
        chosen = directions.flip(1)[:, : self.output_dim]
        # An eigenvector is known up to its sign: the largest entry is made positive, on every machine.
        largest = chosen.gather(0, chosen.abs().argmax(dim=0, keepdim=True))
        self.linear.weight.copy_((chosen * largest.sign() / math.sqrt(share)).T)
        return share

    @torch.no_grad()
    def as_two_layers(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The same map as two affine layers with a GELU between them, for x = gelu(x) - gelu(-x).

        Returns:
            ((weight [H + 2 D, D], bias [H + 2 D]), (weight [d, H + 2 D], bias [d])).
        """
        unit = torch.eye(self.base_dim).to(self.linear.weight)
        first = torch.cat([self.hidden.weight, unit, -unit])
        first_bias = torch.cat([self.hidden.bias, self.hidden.bias.new_zeros(2 * self.base_dim)])
        last = torch.cat([self.out.weight, self.linear.weight, -self.linear.weight], dim=1)
        return (first, first_bias), (last * self.scale, self.out.bias * self.scale)
