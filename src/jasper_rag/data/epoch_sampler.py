"""Order of samples as a pure function of (seed, epoch), shared out among ranks, resumable in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from jasper_rag.data.balanced_order import balanced_order
from jasper_rag.data.counter_random import permutation
from jasper_rag.data.steering_dataset import JASPERSteeringDataset


class EpochSampler(Sampler[int]):
    """Positions in a dataset, in the order of the dataset's current epoch.

    Ranks take every `world_size`-th position, so no two see the same sample and none is padded with duplicates.

    Args:
        dataset: Its epoch and seed give the order.
        shuffle: Whether the order is random; else it is the dataset's own.
        rank: Of this process, from 0.
        world_size: Number of processes.
        even: Give every rank equally many, leaving out up to `world_size - 1` samples of an epoch; training under DDP
            waits for ever where one rank has a batch more.
        balanced: Serve every cluster equally often (`balanced_order`) instead of every sample once.

    Raises:
        ValueError: `rank` is not below `world_size`, or balanced without shuffling.
    """

    def __init__(
        self,
        dataset: JASPERSteeringDataset,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        even: bool = False,
        balanced: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        if balanced and not shuffle:
            raise ValueError("a balanced order is a random one, but shuffle is False")
        self.rank = rank
        self.world_size = world_size
        self._dataset = dataset
        self._shuffle = shuffle
        self._even = even
        self._start: tuple[int, int] | None = None
        self._clusters: NDArray[np.int64] | None = None
        if balanced:
            self._clusters = dataset.tensors.tensors["pair_cluster_id"].cpu()[dataset.split_indices].numpy()

    def __len__(self) -> int:
        """Samples of a whole epoch for this rank; a position set does not change it."""
        shared, left = divmod(len(self._dataset), self.world_size)
        return shared + (not self._even and self.rank < left)

    def __iter__(self) -> Iterator[int]:
        epoch = self._dataset.current_epoch
        mine = self._order(epoch)
        start = self._start[1] if self._start is not None and self._start[0] == epoch else 0
        yield from mine[start:].tolist()

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Places of this rank's samples in an epoch."""
        count, seed = len(self._dataset), self._dataset.seed
        if self._clusters is not None:
            return balanced_order(self._clusters, seed, epoch, len(self), self.rank, self.world_size)
        order = permutation(seed, epoch, count) if self._shuffle else np.arange(count)
        return order[self.rank :: self.world_size][: len(self)]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the dataset, and with it the order."""
        self._dataset.set_epoch(epoch)

    def set_position(self, samples: int) -> None:
        """Begin the current epoch after this many samples of this rank; other epochs begin at their start.

        To go on in the middle of an epoch after `steps` batches: `set_epoch(loader, epoch)`, then
        `loader.sampler_obj.set_position(steps * batch_size)`.

        Raises:
            ValueError: Negative, or more than the epoch has.
        """
        if not 0 <= samples <= len(self):
            raise ValueError(f"position {samples} in an epoch of {len(self)} samples")
        self._start = (self._dataset.current_epoch, samples)
