"""The keywords of every pair: a list of lists, stored flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class KeywordLists:
    """Keyword rows of pair p: `values[offsets[p] : offsets[p + 1]]`; always on the CPU, where rows are chosen.

    Args:
        values: int64 [n_links].
        offsets: int64 [n_pairs + 1].
        weights: float32 [n_links], or None where all keywords weigh the same.
    """

    values: Tensor
    offsets: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, pair: int) -> list[int]:
        """Keyword rows of one pair.

        Raises:
            IndexError: No such pair.
        """
        if not 0 <= pair < len(self):
            raise IndexError(f"pair {pair} of {len(self)}")
        found: list[int] = self.values[self.offsets[pair] : self.offsets[pair + 1]].tolist()
        return found

    def counts(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of keywords of some pairs, [n]."""
        offsets: NDArray[np.int64] = self.offsets.numpy()
        return offsets[pairs + 1] - offsets[pairs]

    def of(self, pairs: NDArray[np.int64]) -> KeywordLists:
        """The lists of some pairs, in their order.

        Args:
            pairs: Rows of pairs, [n].
        """
        lengths = self.counts(pairs)
        starts = self.offsets.numpy()[pairs]
        offsets = np.zeros(len(pairs) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        links = torch.from_numpy(np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths))
        weights = None if self.weights is None else self.weights[links]
        return KeywordLists(self.values[links], torch.from_numpy(offsets), weights)

    def to_lists(self) -> list[list[int]]:
        """Plain lists, one for each pair."""
        values, offsets = self.values.tolist(), self.offsets.tolist()
        return [values[start:end] for start, end in pairwise(offsets)]


def keyword_lists(lists: Sequence[Sequence[int]]) -> KeywordLists:
    """Flatten plain lists.

    Raises:
        ValueError: An entry is not a whole number of 64 bits, or the lists are no lists; it names the pair.
    """
    for pair, entries in enumerate(lists):
        if not isinstance(entries, list | tuple):
            raise ValueError(f"row {pair} is {_shown(entries)}; a list of keyword rows is expected")
    flat = list(chain.from_iterable(lists))
    if set(map(type, flat)) - {int} or (flat and not (_is_row(min(flat)) and _is_row(max(flat)))):
        pair, entry = next(
            (pair, entry) for pair, entries in enumerate(lists) for entry in entries if not _is_row(entry)
        )
        raise ValueError(f"row {pair} holds {_shown(entry)}; a whole number is expected")
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return KeywordLists(torch.from_numpy(np.array(flat, dtype=np.int64)), torch.from_numpy(offsets))


def _is_row(entry: Any) -> bool:
    return type(entry) is int and -(2**63) <= entry < 2**63


def _shown(value: object) -> str:
    return repr(value)[:60]
