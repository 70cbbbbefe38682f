"""Random numbers as a pure function of (seed, epoch, row): no state, so no order of reading can change them.

A worker, a rank, a resumed run and a batch of any size all see the same number for the same row. The generator is
SplitMix64 [Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014] used as a counter: the
i-th output for a key is mix(key + (i + 1) * gamma).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAMMA = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = (1 << 64) - 1

_VARIANT_STREAM = 1
_ORDER_STREAM = 2


def uniform(seed: int, epoch: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) for each row, float64 [n]."""
    # 53 bits: all that float64 holds.
    bits = _bits(_key(seed, epoch, _VARIANT_STREAM), rows) >> np.uint64(11)
    return bits.astype(np.float64) * np.float64(2.0**-53)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A random order of 0 ... count - 1, int64 [count]."""
    keys = _bits(_key(seed, epoch, _ORDER_STREAM), np.arange(count, dtype=np.int64))
    # Stable: should two keys ever be equal, the order is still defined.
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def _bits(key: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    mixed = rows.astype(np.uint64)  # a copy: everything below is in place
    mixed += np.uint64(1)
    mixed *= np.uint64(_GAMMA)
    mixed += np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(_FIRST)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _key(seed: int, epoch: int, stream: int) -> int:
    """Fold three numbers into one key; neighbours give unrelated keys."""
    key = 0
    for number in (seed, epoch, stream):
        key = _mix((key + number + 1) * _GAMMA & _MASK)
    return key


def _mix(number: int) -> int:
    number = (number ^ number >> 30) * _FIRST & _MASK
    number = (number ^ number >> 27) * _SECOND & _MASK
    return number ^ number >> 31
