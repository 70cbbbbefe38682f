"""How an index keeps its vectors: as floats, as half floats, or as bytes; and how far scores of those can be off.

Every way of storing gives scores s' with

    |s' - q . x|  <=  ||q|| ||x - x'||  +  r(q) ||x'||

where x' is the stored form of x (Cauchy-Schwarz) and r(q) bounds the rounding of the computation itself. Search turns
this bound into a margin, so that scoring again what is within it gives the exact result.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.errors import InputError
from jasper_rag.metrics.topk import FloatMatrix, as_float32, products

Arrays = tuple[NDArray[Any], ...]
"""What is stored, one entry per vector along the first axis of each."""

_FEW_QUERIES = 12
"""Up to here the int8 kernel beats turning bytes into floats for the BLAS."""

_KERNEL_GROUP, _KERNEL_ROWS, _KERNEL_BYTES = 16, 4, 2**30

_INT8_LIMIT = 127


class Storage(Protocol):
    """One way of storing vectors."""

    names: tuple[str, ...]
    """Of the stored arrays, in files."""
    rounds: bool
    """Whether scores are less precise than float32 products of the decoded vectors."""

    def encode(self, vectors: FloatMatrix) -> Arrays:
        """The stored form of vectors [n, D]."""
        ...

    def decode(self, stored: Arrays) -> FloatMatrix:
        """Back to float32 [n, D]; not what went in, but what scores refer to."""
        ...

    def scores(self, queries: FloatMatrix, stored: Arrays, out: FloatMatrix) -> None:
        """Write the inner products with float32 queries [Q, D] into out, float32 [Q, n]."""
        ...

    def rounding(self, queries: FloatMatrix) -> NDArray[np.float64]:
        """r(q) of each query, [Q]: error of a score against the decoded vector, per unit of that vector's length."""
        ...


class FloatStorage:
    """float32 or float16; scores are computed in float32 from either.

    Args:
        dtype: np.float32 or np.float16.
    """

    names: tuple[str, ...] = ("vectors",)
    rounds: bool = False

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self._dtype = dtype

    def encode(self, vectors: FloatMatrix) -> Arrays:
        """Rounded to the type; what is too large for half precision becomes infinite."""
        return (vectors.astype(self._dtype, copy=False),)

    def decode(self, stored: Arrays) -> FloatMatrix:
        """As float32."""
        return as_float32(stored[0])

    def scores(self, queries: FloatMatrix, stored: Arrays, out: FloatMatrix) -> None:
        """By `products`."""
        products(queries, stored[0], out)

    def rounding(self, queries: FloatMatrix) -> NDArray[np.float64]:
        """That of adding up D float32 numbers."""
        return _summation_error(queries)


class Int8Storage:
    """One byte per dimension and one scale per vector: x' = scale * round(x / scale), scale = max |x_d| / 127.

    The scale is a bfloat16 number (rounded up), as the kernel for few queries takes it. That kernel,
    `_weight_int8pack_mm` of torch, reads the bytes as they lie and multiplies in float32; it returns bfloat16. With
    many queries, or where torch has no such kernel, bytes are turned into floats and multiplied as such, block by
    block.

    Args:
        dimension: D.
    """

    names: tuple[str, ...] = ("codes", "scales")
    rounds: bool = True

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        # The kernel loads whole, aligned groups of numbers, and would read past the end of any other row.
        self._width = -(-dimension // _KERNEL_GROUP) * _KERNEL_GROUP

    def encode(self, vectors: FloatMatrix) -> Arrays:
        """Bytes int8 [n, D'], D' being D rounded up to a multiple of 16, and the bits of the scales, int16 [n]."""
        bits = _bfloat16_above(np.abs(vectors).max(axis=1, initial=0.0) / _INT8_LIMIT)
        scales = _from_bfloat16(bits)
        codes = np.zeros((len(vectors), self._width), dtype=np.int8)
        steps = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None])
        codes[:, : self._dimension] = np.clip(steps, -_INT8_LIMIT, _INT8_LIMIT)
        return codes, bits

    def decode(self, stored: Arrays) -> FloatMatrix:
        """Byte times scale."""
        codes, bits = stored
        return codes[:, : self._dimension].astype(np.float32) * _from_bfloat16(bits)[:, None]

    def scores(self, queries: FloatMatrix, stored: Arrays, out: FloatMatrix) -> None:
        """By the kernel for few queries, by decoded blocks for many."""
        codes, bits = stored
        queries = np.pad(queries, ((0, 0), (0, self._width - self._dimension)))
        by_kernel = self._kernel_rows(len(queries), codes)
        # The kernel counts bytes in 32 bits.
        most = _KERNEL_BYTES // self._width // _KERNEL_ROWS * _KERNEL_ROWS
        asked = torch.from_numpy(queries).bfloat16()
        for start in range(0, by_kernel, most):
            rows = slice(start, min(start + most, by_kernel))
            scales = torch.from_numpy(bits[rows]).view(torch.bfloat16)
            found = torch.ops.aten._weight_int8pack_mm(asked, torch.from_numpy(codes[rows]), scales)
            out[:, rows] = found.float().numpy()
        if by_kernel < len(codes):
            products(queries, codes[by_kernel:], out[:, by_kernel:])
            out[:, by_kernel:] *= _from_bfloat16(bits[by_kernel:])

    def _kernel_rows(self, queries: int, codes: NDArray[np.int8]) -> int:
        """How many vectors, from the first, the kernel should score."""
        aligned = codes.ctypes.data % _KERNEL_GROUP == 0
        if queries > _FEW_QUERIES or not aligned or not hasattr(torch.ops.aten, "_weight_int8pack_mm"):
            return 0
        # It loads scales in groups too.
        return len(codes) // _KERNEL_ROWS * _KERNEL_ROWS

    def rounding(self, queries: FloatMatrix) -> NDArray[np.float64]:
        """Rounding the query and the score to bfloat16, and the summation."""
        rounded = torch.from_numpy(queries).bfloat16().float().numpy()
        lost: NDArray[np.float64] = np.linalg.norm(queries.astype(np.float64) - rounded, axis=1)
        length: NDArray[np.float64] = np.linalg.norm(rounded.astype(np.float64), axis=1)
        return lost + 1.01 * 2.0**-8 * length + _summation_error(queries)


STORAGES: tuple[str, ...] = ("float32", "float16", "int8")
"""Names of the ways of storing."""


def storage_named(name: str, dimension: int) -> Storage:
    """The storage of that name for vectors of D dimensions; InputError for an unknown one."""
    match name:
        case "float32":
            return FloatStorage(np.float32)
        case "float16":
            return FloatStorage(np.float16)
        case "int8":
            return Int8Storage(dimension)
    raise InputError(f"unknown storage {name!r}", remedy=f"Known: {', '.join(STORAGES)}.", field="storage")


def _summation_error(queries: FloatMatrix) -> NDArray[np.float64]:
    # |fl(q . x) - q . x| <= D u ||q|| ||x|| with u = 2^-24 (Higham 2002, section 3.1); twice that is on the safe side.
    error: NDArray[np.float64] = np.linalg.norm(queries.astype(np.float64), axis=1) * (queries.shape[1] * 2.0**-23)
    return error


def _bfloat16_above(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Bits of the smallest bfloat16 numbers not below `values`, which are finite and >= 0."""
    upper = (values.astype(np.float32).view(np.uint32) + np.uint32(0xFFFF)) >> 16
    bits: NDArray[np.int16] = upper.astype(np.uint16).view(np.int16)
    return bits


def _from_bfloat16(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return values
