"""The best k entries of score rows that arrive block by block, without sorting what cannot be among them.

A block is folded into groups of columns. The k-th largest group maximum bounds the k-th largest score from below, so
only groups that reach it are looked at; from the second block on, only those above the best k so far.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatMatrix = NDArray[np.float32]
RowMatrix = NDArray[np.int64]

NO_DOCUMENT = -1
"""The row returned where a query has fewer than k candidates; its score is -inf."""


class Entries(NamedTuple):
    """Scored documents of several queries, one per position."""

    query: NDArray[np.int64]
    """Position of the query, int64 [E]."""
    row: NDArray[np.int64]
    """The document, int64 [E]."""
    score: NDArray[np.float32]
    """float32 [E]."""

    def taken(self, places: NDArray[Any]) -> Entries:
        """Those at the places: positions in the order wanted, or bool [E]."""
        return Entries(self.query[places], self.row[places], self.score[places])


class BestRows:
    """Collects the k best documents of each of Q queries.

    Memory is O(Q k) beside the block being added, plus the entries within the margin.

    Args:
        queries: Q.
        k: At least 1.
        margin: float32 [Q], >= 0: `candidates` keeps all entries less than this below a query's k-th best score.
            By default 0: k entries, ties by the smaller row.
    """

    def __init__(self, queries: int, k: int, margin: NDArray[np.float32] | None = None) -> None:
        self._queries, self._k = queries, k
        self._margin = np.zeros(queries, dtype=np.float32) if margin is None else margin
        # A score must be above the floor to matter. Later rows lose ties, so equal to the k-th best is not enough.
        self._floor = np.full(queries, -np.inf, dtype=np.float32)
        self._kept = _joined([])
        self._waiting: list[Entries] = []

    def add(self, scores: FloatMatrix, first_row: int) -> None:
        """Take in the next block.

        Args:
            scores: float32 [Q, b]; -inf means no candidate.
            first_row: Row of the first column, above every row added before.

        Raises:
            ValueError: If a score is NaN.
        """
        found = _promising(scores, self._floor, self._k, self._margin)
        self._waiting.append(found._replace(row=found.row + first_row))
        # Merging only when there is as much new as old keeps the sorting a small share of the work.
        if sum(len(part.row) for part in self._waiting) >= max(len(self._kept.row), self._k * self._queries):
            self._merge()

    def candidates(self) -> Entries:
        """All entries among the k best or within the margin, by query, then score descending, then row."""
        self._merge()
        return self._kept

    def top(self) -> tuple[FloatMatrix, RowMatrix]:
        """Scores float32 [Q, k], descending, and rows int64 [Q, k]; row -1 and score -inf where there are fewer."""
        return ranked(self.candidates(), self._queries, self._k)

    def _merge(self) -> None:
        merged = _in_order(_joined([self._kept, *self._waiting]))
        self._waiting = []
        place = _places(merged.query, self._queries)
        last = place == self._k - 1
        self._floor[merged.query[last]] = merged.score[last] - self._margin[merged.query[last]]
        keep = (place < self._k) | (merged.score > self._floor[merged.query])
        self._kept = merged.taken(keep)


def row_top_k(scores: FloatMatrix, k: int) -> tuple[FloatMatrix, RowMatrix]:
    """The k largest entries of every row.

    An entry of -inf is no candidate: where a row has fewer than k candidates, the rest gets row -1 and score -inf.

    Args:
        scores: float32 [Q, N].
        k: At least 1; with k > N the result has N columns.

    Returns:
        Scores float32 [Q, min(k, N)], descending, and their columns int64 [Q, min(k, N)]; ties by the smaller column.

    Raises:
        ValueError: If k < 1 or a score is NaN.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    scores = np.asarray(scores, dtype=np.float32)
    best = BestRows(len(scores), min(k, scores.shape[1]))
    if scores.size:
        best.add(scores, 0)
    return best.top()


def ranked(entries: Entries, queries: int, k: int) -> tuple[FloatMatrix, RowMatrix]:
    """The k best entries of each query in any order given, as `BestRows.top` returns them."""
    entries = _in_order(entries)
    place = _places(entries.query, queries)
    within = place < k
    scores = np.full((queries, k), -np.inf, dtype=np.float32)
    rows = np.full((queries, k), NO_DOCUMENT, dtype=np.int64)
    scores[entries.query[within], place[within]] = entries.score[within]
    rows[entries.query[within], place[within]] = entries.row[within]
    return scores, rows


def _in_order(entries: Entries) -> Entries:
    """Sorted by query, then score descending, then row."""
    return entries.taken(np.lexsort((entries.row, -entries.score, entries.query)))


def _joined(parts: list[Entries]) -> Entries:
    empty = Entries(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    queries, rows, scores = zip(empty, *parts, strict=True)
    return Entries(np.concatenate(queries), np.concatenate(rows), np.concatenate(scores))


def _places(query: NDArray[np.int64], queries: int) -> NDArray[np.int64]:
    """Position of each entry among those of its query, from 0; entries are sorted by query."""
    counts = np.bincount(query, minlength=queries)
    places: NDArray[np.int64] = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def _promising(scores: FloatMatrix, floor: NDArray[np.float32], k: int, margin: NDArray[np.float32]) -> Entries:
    """Entries above the floor and not less than the margin below the block's k-th best; a few too many may come."""
    size = max(1, isqrt(scores.shape[1] // k))
    maxima = _group_maxima(scores, size)
    if np.isnan(maxima).any():
        query, column = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"NaN score: query {query} and document {column} of a block. Vectors must be finite.")
    reached = maxima > floor[:, None]
    cut = np.full(len(scores), -np.inf, dtype=np.float32)
    many = np.flatnonzero(np.count_nonzero(reached, axis=1) > k)
    cut[many] = np.partition(maxima[many], -k, axis=1)[:, -k] - margin[many] if len(many) else 0
    reached[many] &= maxima[many] >= cut[many, None]
    parts = []
    if size > 1:
        # Where most groups qualify (ties above all), looking at the whole row is cheaper and keeps memory bounded.
        for query in np.flatnonzero(4 * np.count_nonzero(reached, axis=1) > maxima.shape[1]):
            columns = _row_candidates(scores[query], k, float(floor[query]), float(margin[query]))
            parts.append(Entries(np.full(len(columns), query), columns, scores[query, columns]))
            reached[query] = False
    query, group = np.divmod(np.flatnonzero(reached), maxima.shape[1])
    columns = group[:, None] + maxima.shape[1] * np.arange(-(-scores.shape[1] // maxima.shape[1]))
    inside = columns < scores.shape[1]
    values = scores[query[:, None], np.where(inside, columns, 0)]
    member, place = np.nonzero(inside & (values > floor[query, None]) & (values >= cut[query, None]))
    parts.append(Entries(query[member], columns[member, place], values[member, place]))
    return _joined(parts)


def _group_maxima(scores: FloatMatrix, size: int) -> FloatMatrix:
    """Maxima of G = b // size groups, float32 [Q, G]; group g holds the columns g, g + G, g + 2 G, ..."""
    if size == 1:
        return scores
    queries, total = scores.shape
    groups = total // size
    # Groups of columns far apart, so that the maximum runs over whole rows of memory.
    folded = scores[:, : size * groups].reshape(queries, size, groups)
    maxima: FloatMatrix = np.maximum.reduce(folded, axis=1)
    rest = scores[:, size * groups :]
    np.maximum(maxima[:, : rest.shape[1]], rest, out=maxima[:, : rest.shape[1]])
    return maxima


def _row_candidates(row: NDArray[np.float32], k: int, floor: float, margin: float) -> NDArray[np.int64]:
    """Columns of one row above the floor and within the margin of its k-th best; without a margin k at most."""
    kth = float(np.partition(row, -k)[-k])
    above = np.flatnonzero(row > max(kth - margin, floor))
    if margin > 0 or kth <= floor:
        return above
    return np.concatenate([above, np.flatnonzero(row == np.float32(kth))[: k - len(above)]])
