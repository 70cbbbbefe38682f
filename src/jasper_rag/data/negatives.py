"""Hard negatives that can be exchanged while batches are being read, in this process and in workers."""

from __future__ import annotations

import torch
from torch import Tensor

from jasper_rag.data.shared_tensors import shared_copy


class HardNegatives:
    """Source rows and tiers of the negatives of every pair; always copies, on the CPU in shared memory.

    A counter beside them is odd while they are being exchanged (a sequence lock): a reader that saw it odd or changed
    reads again, so that no batch mixes old and new.

    Args:
        ids: int64 [n_pairs, N], rows of sources.
        tiers: int64 [n_pairs, N], 1 to 4.
        device: Where they are to live.
        scores: float32 [n_pairs, N], cosines they were mined for; None where they are not known. No batch holds them,
            so workers keep those that they started with.
    """

    def __init__(self, ids: Tensor, tiers: Tensor, device: torch.device, scores: Tensor | None = None) -> None:
        on_cpu = device.type == "cpu"
        self.scores = None if scores is None else scores.to(device)
        self.ids = shared_copy(ids) if on_cpu else ids.to(device)
        self.tiers = shared_copy(tiers) if on_cpu else tiers.to(device)
        self._counter = shared_copy(torch.zeros(1, dtype=torch.int64))

    @property
    def exchanges(self) -> int:
        """How often they have been exchanged."""
        return int(self._counter) // 2

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and tiers of some pairs, int64 [B, N] each.

        Args:
            rows: int64 [B], on the device.
        """
        while True:
            before = int(self._counter)
            ids, tiers = self.ids.index_select(0, rows), self.tiers.index_select(0, rows)
            if before % 2 == 0 and int(self._counter) == before:
                return ids, tiers

    def exchange(self, ids: Tensor, tiers: Tensor, scores: Tensor | None = None) -> None:
        """Put others in their place, everywhere at once.

        Args:
            ids: int64 [n_pairs, N].
            tiers: int64 [n_pairs, N].
            scores: float32 [n_pairs, N], or None where they are not known.

        Raises:
            ValueError: Another shape.
        """
        if ids.shape != self.ids.shape or tiers.shape != self.tiers.shape:
            given, wanted = [list(ids.shape), list(tiers.shape)], list(self.ids.shape)
            raise ValueError(f"negatives and tiers have shapes {given}, expected {wanted} twice")
        self._counter += 1
        try:
            self.ids.copy_(ids)
            self.tiers.copy_(tiers)
            self.scores = None if scores is None else scores.to(self.ids.device)
        finally:
            # Left odd, say by an interrupt, readers would wait for ever.
            self._counter += 1
