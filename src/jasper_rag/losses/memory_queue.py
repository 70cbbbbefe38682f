"""Embeddings of the last batches, so that a statistic of a thousand rows can be taken at a batch of sixteen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jasper_rag.losses.unit_rows import widened


class MemoryQueue(nn.Module):
    """A ring of detached rows, float32; it is part of the state dict, so a resumed run goes on as the first would have.

    Args:
        size: Rows kept; the oldest go first.
        dimension: Width of a row.

    Raises:
        ValueError: Size or dimension is not positive.
    """

    rows: Tensor

    def __init__(self, size: int, dimension: int) -> None:
        super().__init__()
        if size < 1 or dimension < 1:
            raise ValueError(f"a queue needs a size and a dimension of at least 1, got {size} and {dimension}.")
        self.register_buffer("rows", torch.zeros(size, dimension))
        self._next, self._filled = 0, 0

    def __len__(self) -> int:
        return self._filled

    def joined(self, rows: Tensor) -> Tensor:
        """`rows` [n, d] with their gradient, followed by what the queue holds, without: [n + len, d]."""
        if not self._filled:
            return rows
        # A copy: `push` overwrites the ring before the backward pass has looked at it.
        return torch.cat([rows, self.rows[: self._filled].to(rows)])

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Take `rows` [n, d] in, in their order; of more than `size` the last.

        Raises:
            ValueError: They are of another width.
        """
        size, dimension = self.rows.shape
        if rows.ndim != 2 or rows.shape[1] != dimension:
            raise ValueError(f"rows {list(rows.shape)} for a queue of width {dimension}.")
        kept = widened(rows.detach())[-size:].to(self.rows)
        places = (self._next + torch.arange(len(kept), device=kept.device)) % size
        self.rows[places] = kept
        self._next = (self._next + len(kept)) % size
        self._filled = min(self._filled + len(kept), size)

    def get_extra_state(self) -> dict[str, int]:
        """Where the next row goes, and how many there are."""
        return {"next": self._next, "filled": self._filled}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Inverse of `get_extra_state`."""
        self._next, self._filled = int(state["next"]), int(state["filled"])
