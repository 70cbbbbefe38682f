"""The guarded prediction out of stock sentence-transformers modules: Dense, Normalize and SparseAutoEncoder.

A chain of such modules passes one vector along, so neither a product of two of its coordinates nor a division by the
length of a part of it can be asked for. Both can be built, exactly up to rounding:

- **Products.** Hardswish is x (x + 3) / 6 on [-3, 3], a parabola. Hence h(y) - h(-y) = y,  3 (h(y) + h(-y)) = y^2, and
  3/2 (h(x + y - 3/2) - h(x - y - 3/2)) = x y.
- **Lengths.** Let e be of unit length, p = e M and x = |p|^2. Then z = [2 x e, (x - 1) p] has the length |p| (x + 1),
  for 4 x^2 + x (x - 1)^2 = x (x + 1)^2. Normalize gives [v, w] = z / |z|, and v M - w = p / |p|: the length is divided
  out of p, while v is still a multiple of e.
- **The blend.** With e = normalise([q, s, 1]) the question carries its own share s, and v = [v_q, v_s, v_1] is a
  multiple of [q, s, 1]. So (v_1 - v_s) v_q + v_s (v_1 p / |p|) is a multiple of (1 - s) q + s p / |p|; normalise it.
- **The gate.** A SparseAutoEncoder keeps the k largest of its latents. Latents are q + 1.3, and the cosines with the
  bank scaled to lie below all of these; k = D + neighbours keeps all of q and the nearest neighbours.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.modules import Dense, Module, Normalize
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder
from torch import nn

from jasper_rag.export.query_map import QueryMap
from jasper_rag.models.guard import FamiliarityGate

Matrix = NDArray[np.float64]

_LIFT = 1.3
"""Added to q before the largest latents are chosen: q + 1.3 >= .3."""
_COSINE_SCALE, _COSINE_LIFT = 0.1, 0.11
"""Cosines become .01 to .21: positive, for only positive latents survive, and below every q + 1.3."""
_MIDDLE = 1.5
"""Shift of the parabola's arguments at which a difference of two is a product."""
_LARGEST_SQUARE = 6.0
"""Largest |q M|^2 after scaling: e is at most q / sqrt(2), so x <= 3, where every argument is within [-3, 3]."""


def query_modules(exported: QueryMap) -> list[Module]:
    """Modules that turn `sentence_embedding` from the unit question into the vector to search with."""
    if exported.alpha == 0:
        return []
    if exported.alpha == 1 and exported.gate is None:
        return [_dense(exported.matrix.astype(np.float64)), Normalize()]
    largest = float(np.linalg.norm(exported.matrix.astype(np.float64), ord=2))
    scaled = exported.matrix * (math.sqrt(_LARGEST_SQUARE) / largest)
    # e = normalise([q, s, 1]) has two coordinates more than q, which the prediction does not look at.
    matrix = np.vstack([scaled, np.zeros((2, exported.dimension))])
    return [
        *_question_and_share(exported),
        Normalize(),
        *_long_vector(matrix),
        Normalize(),
        *_blend(matrix),
        Normalize(),
    ]


def _question_and_share(exported: QueryMap) -> list[Module]:
    """Q [D] -> [q, s, 1]."""
    dim = exported.dimension
    if exported.gate is None:
        constant = np.concatenate([np.zeros(dim), [exported.alpha, 1.0]])
        return [_dense(np.eye(dim, dim + 2), constant)]
    gate = exported.gate
    neighbours = min(gate.neighbours, len(gate.bank))
    # u = (f - low) / (high - low), and u - 1, out of the sum of the kept latents; q + 1.3 passes the ReLU unharmed.
    slope = 1.0 / (_COSINE_SCALE * neighbours * (gate.high - gate.low))
    start = -(_COSINE_LIFT / _COSINE_SCALE + gate.low) / (gate.high - gate.low)
    ramp = np.zeros((dim + len(gate.bank), dim + 2))
    ramp[:dim, :dim] = np.eye(dim)
    ramp[dim:, dim:] = slope
    ramped = _dense(ramp, np.concatenate([np.zeros(dim), [start, start - 1.0]]), nn.ReLU())
    # clip(u, 0, 1) = relu(u) - relu(u - 1).
    share = np.eye(dim + 2, dim + 2)
    share[dim:, dim:] = [[exported.alpha, 0.0], [-exported.alpha, 0.0]]
    shared = _dense(share, np.concatenate([np.full(dim, -_LIFT), [0.0, 1.0]]))
    return [_nearest(gate, dim, neighbours), ramped, shared]


def _nearest(gate: FamiliarityGate, dim: int, neighbours: int) -> SparseAutoEncoder:
    latents = dim + len(gate.bank)
    module = SparseAutoEncoder(dim, hidden_dim=latents, k=dim + neighbours, k_aux=0)
    weight = np.vstack([np.eye(dim), _COSINE_SCALE * gate.bank])
    lift = np.concatenate([np.full(dim, _LIFT), np.full(len(gate.bank), _COSINE_LIFT)])
    with torch.no_grad():
        module.get_parameter("encoder.weight").copy_(torch.from_numpy(weight))
        module.get_parameter("latent_bias").copy_(torch.from_numpy(lift))
    return module


def _long_vector(matrix: Matrix) -> list[Module]:
    """E [n] -> z = [2 x e, (x - 1) p], of length |p| (x + 1)."""
    size, dim = matrix.shape
    unit = np.eye(size)
    squares = _dense(np.hstack([_both(matrix), _both(unit)]), activation=nn.Hardswish())
    # [e, x]
    read = np.zeros((2 * dim + 2 * size, size + 1))
    read[: 2 * dim, size] = 3.0
    read[2 * dim :, :size] = _both(unit).T
    question, square = np.eye(size + 1, size), np.zeros((size + 1, size))
    square[size] = 1.0
    pairs, shift = _products(square, question)
    products = _dense(np.hstack([pairs, _both(question)]), np.concatenate([shift, np.zeros(2 * size)]), nn.Hardswish())
    # Of the product x e and of e itself.
    times, copy = 1.5 * _both(unit).T, _both(unit).T
    long = np.vstack([np.hstack([2.0 * times, times @ matrix]), np.hstack([0.0 * copy, -copy @ matrix])])
    return [squares, _dense(read), products, _dense(long)]


def _blend(matrix: Matrix) -> list[Module]:
    """[v, w] [n + D] -> a multiple of (1 - s) q + s p / |p|."""
    size, dim = matrix.shape
    state = size + dim
    prediction = np.vstack([matrix, -np.eye(dim)])
    question = np.eye(state, dim)
    share, one = (np.repeat(np.eye(state)[:, [size - k]], dim, axis=1) for k in (2, 1))
    predicted, shift = _products(one, prediction)
    kept, _ = _products(one - share, question)
    first = _dense(
        np.hstack([predicted, kept, _both(share[:, :1])]),
        np.concatenate([shift, shift, np.zeros(2)]),
        nn.Hardswish(),
    )
    # [(v_1 - v_s) v_q, v_1 p / |p|, v_s]
    times, copy = 1.5 * _both(np.eye(dim)).T, _both(np.eye(dim)).T
    read = np.zeros((4 * dim + 2, 2 * dim + 1))
    read[: 2 * dim, dim : 2 * dim] = times
    read[2 * dim : 4 * dim, :dim] = times
    read[4 * dim :, 2 * dim :] = [[1.0], [-1.0]]
    after = np.eye(2 * dim + 1)
    taken, shift = _products(np.repeat(after[:, [2 * dim]], dim, axis=1), after[:, dim : 2 * dim])
    second = _dense(
        np.hstack([_both(after[:, :dim]), taken]), np.concatenate([np.zeros(2 * dim), shift]), nn.Hardswish()
    )
    return [first, _dense(read), second, _dense(np.vstack([copy, times]))]


def _both(columns: Matrix) -> Matrix:
    """Columns that hold y and -y."""
    return np.hstack([columns, -columns])


def _products(one: Matrix, other: Matrix) -> tuple[Matrix, Matrix]:
    """Columns and shifts whose parabolas, subtracted in pairs and times 3/2, are products of two read-outs."""
    return np.hstack([one + other, one - other]), np.full(2 * one.shape[1], -_MIDDLE)


def _dense(weight: Matrix, bias: Matrix | None = None, activation: nn.Module | None = None) -> Dense:
    """`Dense` of x @ weight + bias, weight [in, out]."""
    return Dense(
        weight.shape[0],
        weight.shape[1],
        bias=bias is not None,
        activation_function=activation or nn.Identity(),
        init_weight=torch.tensor(weight.T, dtype=torch.float32).contiguous(),
        init_bias=None if bias is None else torch.tensor(bias, dtype=torch.float32),
    )
