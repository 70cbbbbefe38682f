"""Memory of batches, taken again once nobody holds it.

A batch of 512 pairs with 8 negatives fills some 9 MB. Given back to the system and asked for anew, every page of it is
cleared and mapped again, which costs about a third of the time of filling it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_KEPT = 3
"""Blocks held for one tensor of a batch: one being used up, one being filled, one to spare."""

_REFERENCES_OF_A_FREE_BLOCK = 2
"""As `sys.getrefcount` counts: the variable and the call's argument. A tensor over the block would hold one more."""


class BatchMemory:
    """Blocks for one tensor of successive batches, on the CPU.

    A tensor made of a block holds the block, and so does every view of it; a block is used again only if no tensor
    holds it any more. A copy or a pickle of this object starts empty.
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float32]] = []

    def empty(self, rows: int, columns: int) -> Tensor:
        """A float32 tensor [rows, columns] with arbitrary content."""
        size = rows * columns
        block = self._free_block(size)
        self._blocks.append(block)
        return torch.from_numpy(block[:size]).view(rows, columns)

    def _free_block(self, size: int) -> NDArray[np.float32]:
        # Popped, not iterated over: two threads never get the same block.
        for _ in range(len(self._blocks)):
            block = self._blocks.pop(0)
            if sys.getrefcount(block) == _REFERENCES_OF_A_FREE_BLOCK and size <= len(block) <= 2 * size:
                return block
            if len(self._blocks) < _KEPT - 1:
                self._blocks.append(block)
        return np.empty(size, dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return {"_blocks": []}
