"""Exact inner-product search, streamed over blocks of documents.

Deterministic: the order is score descending, equal scores by the smaller row, whatever the block sizes. (Equal vectors
in different blocks, and a query asked alone or among others, may differ in the last bits of a score: that is up to the
BLAS.)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jasper_rag.metrics.best_rows import NO_DOCUMENT as NO_DOCUMENT
from jasper_rag.metrics.best_rows import BestRows
from jasper_rag.metrics.best_rows import FloatMatrix as FloatMatrix
from jasper_rag.metrics.best_rows import RowMatrix as RowMatrix
from jasper_rag.metrics.best_rows import row_top_k as row_top_k

_SCORES = 2**22
"""Scores computed at a time, 16 MB: small enough for the last cache level, few enough calls into the BLAS."""

_CONVERTED_ROWS = 4096
"""Rows turned into float32 at a time, so that they are still in cache when they are multiplied."""

_PIECE = 32_767
"""Numbers that torch converts without starting threads."""

_FEW_QUERIES = 8
"""Up to here one dot product per pair is faster than a matrix product: BLAS packs the documents first."""

_SHARE = 2**21
"""Multiplications below which another thread costs more than it brings."""


def top_k(
    queries: NDArray[Any],
    documents: NDArray[Any],
    k: int,
    *,
    document_block: int | None = None,
    query_block: int = 512,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[FloatMatrix, RowMatrix]:
    """Exact inner-product search; documents are read once, block by block, so they may be a memory map.

    Memory beyond the result: O(query_block * document_block + Q k).

    Args:
        queries: [Q, D], any float type.
        documents: [N, D], any float type; computed in float32.
        k: At least 1; with k > N the result has N columns.
        document_block: Documents per block; by default by the number of queries, see `block_rows`.
        query_block: Queries per block.
        allowed: Which documents may be returned: bool [N], or bool [Q, N] query by query. A query with fewer than k
            allowed documents is filled up with row -1 and score -inf.

    Returns:
        Scores float32 [Q, min(k, N)], descending, and document rows int64 of the same shape; ties by the smaller row.

    Raises:
        ValueError: If shapes differ, k or a block size is below 1, or a score is NaN.
    """
    block = _checked_block(queries, documents, document_block, query_block)
    if query_block < 1 or k < 1:
        raise ValueError(f"query_block and k must be at least 1, got {query_block} and {k}.")
    if allowed is not None and allowed.shape not in [(len(documents),), (len(queries), len(documents))]:
        raise ValueError(
            f"allowed must be [{len(documents)}] or [{len(queries)}, {len(documents)}], got {list(allowed.shape)}."
        )
    width = min(k, len(documents))
    chunks = [slice(first, first + query_block) for first in range(0, len(queries), query_block)]
    collected = [BestRows(len(queries[chunk]), width) for chunk in chunks]
    buffer = np.empty(min(query_block, len(queries)) * min(block, len(documents)), dtype=np.float32)
    for start in range(0, len(documents), block):
        part = documents[start : start + block]
        for chunk, best in zip(chunks, collected, strict=True):
            asked = queries[chunk]
            scores = buffer[: len(asked) * len(part)].reshape(len(asked), len(part))
            products(asked, part, scores)
            if allowed is not None:
                mask = allowed[..., start : start + block]
                scores[~np.broadcast_to(mask if mask.ndim == 1 else mask[chunk], scores.shape)] = -np.inf
            best.add(scores, start)
    found = [best.top() for best in collected] or [row_top_k(np.zeros((0, width), dtype=np.float32), max(width, 1))]
    return np.concatenate([scores for scores, _ in found]), np.concatenate([rows for _, rows in found])


def inner_products(queries: NDArray[Any], documents: NDArray[Any], *, document_block: int | None = None) -> FloatMatrix:
    """All scores, float32 [Q, N], with documents (possibly a memory map) read in blocks; for a few queries at a time.

    Raises:
        ValueError: If shapes differ or the block size is below 1.
    """
    block = _checked_block(queries, documents, document_block, len(queries))
    scores = np.empty((len(queries), len(documents)), dtype=np.float32)
    for start in range(0, len(documents), block):
        products(queries, documents[start : start + block], scores[:, start : start + block])
    return scores


def products(queries: NDArray[Any], documents: NDArray[Any], out: FloatMatrix) -> None:
    """Write all inner products of queries [Q, D] and documents [b, D], any real type, into out, float32 [Q, b]."""
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if len(queries) > _FEW_QUERIES or not hasattr(np, "vecdot"):  # NumPy 1 has no vecdot.
        _fill(_matrix_products, queries, documents, out)
        return
    # Threads of our own: they wait for nothing but each other's end, so a busy processor slows them down evenly.
    threads = min(torch.get_num_threads(), max(1, queries.size * len(documents) // _SHARE))
    if threads == 1:
        _fill(_dot_products, queries, documents, out)
        return
    share = -(-len(documents) // threads)
    parts = [slice(start, start + share) for start in range(0, len(documents), share)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: _fill(_dot_products, queries, documents[part], out[:, part]), parts))


def as_float32(vectors: NDArray[Any]) -> FloatMatrix:
    """Vectors [n, D] of any real type as float32."""
    if vectors.dtype == np.float32:
        return np.asarray(vectors)
    converted = np.empty(vectors.shape, dtype=np.float32)
    _convert(vectors, converted)
    return converted


def block_rows(queries: int) -> int:
    """Documents to score at a time for this many queries: what fits the cache, but no crumbs."""
    return max(_SCORES // max(queries, 1), 4096)


def _checked_block(queries: NDArray[Any], documents: NDArray[Any], block: int | None, at_once: int) -> int:
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise ValueError(
            f"queries [Q, D] and documents [N, D] must share D, got {list(queries.shape)} and {list(documents.shape)}."
        )
    if block is not None and block < 1:
        raise ValueError(f"document_block must be at least 1, got {block}.")
    return block or block_rows(min(len(queries), at_once))


def _fill(
    score: Callable[[FloatMatrix, FloatMatrix, FloatMatrix], None],
    queries: FloatMatrix,
    documents: NDArray[Any],
    out: FloatMatrix,
) -> None:
    """Score all documents, converted to float32 block by block if need be."""
    # A non-finite vector is refused by its NaN score, with a message; numpy's warning would only be noise.
    with np.errstate(invalid="ignore", over="ignore"):
        if documents.dtype == np.float32:
            score(queries, np.asarray(documents), out)
            return
        # One buffer for all blocks: fresh memory would cost more than the conversion.
        buffer = np.empty((min(_CONVERTED_ROWS, len(documents)), documents.shape[1]), dtype=np.float32)
        for start in range(0, len(documents), _CONVERTED_ROWS):
            part = documents[start : start + _CONVERTED_ROWS]
            converted = buffer[: len(part)]
            _convert(part, converted)
            score(queries, converted, out[:, start : start + len(part)])


def _matrix_products(queries: FloatMatrix, documents: FloatMatrix, out: FloatMatrix) -> None:
    np.matmul(queries, documents.T, out=out)


def _dot_products(queries: FloatMatrix, documents: FloatMatrix, out: FloatMatrix) -> None:
    # Without `out`, so that the result is [b, Q] and each document is read once, for all queries.
    out[:] = np.vecdot(documents[:, None, :], queries[None]).T


def _convert(vectors: NDArray[Any], out: FloatMatrix) -> None:
    if vectors.dtype != np.float16:
        with np.errstate(over="ignore"):
            np.copyto(out, vectors, casting="same_kind")
        return
    # NumPy converts half precision one number at a time, torch eight; but torch warns about read-only memory.
    source = torch.from_numpy(vectors if vectors.flags.writeable else np.array(vectors))
    # In pieces too small for torch to start threads over, which would cost more than the conversion.
    rows = max(1, _PIECE // max(1, vectors.shape[1]))
    with torch.inference_mode():
        for target, piece in zip(torch.split(torch.from_numpy(out), rows), torch.split(source, rows), strict=True):
            target.copy_(piece)
