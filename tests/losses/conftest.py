"""Several ranks in one process: threads that stand for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from jasper_rag.losses import gathering


class ThreadRanks:
    """The part of `torch.distributed` that the losses use, between threads."""

    def __init__(self, count: int) -> None:
        self.count, self.own = count, threading.local()
        self.barrier, self.posted = threading.Barrier(count, timeout=20), dict[int, Tensor]()

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def get_world_size(self) -> int:
        return self.count

    def get_rank(self) -> int:
        rank: int = self.own.rank
        return rank

    def all_gather(self, pieces: list[Tensor], tensor: Tensor) -> None:
        self.posted[self.get_rank()] = tensor
        self.barrier.wait()
        for rank, piece in enumerate(pieces):
            piece.copy_(self.posted[rank])
        self.barrier.wait()

    def all_reduce(self, tensor: Tensor) -> None:
        pieces = [torch.empty_like(tensor) for _ in range(self.count)]
        self.all_gather(pieces, tensor)
        tensor.copy_(torch.stack(pieces).sum(dim=0))


@pytest.fixture
def as_ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], ThreadRanks]:
    """Make the losses believe in so many ranks."""

    def believe(count: int) -> ThreadRanks:
        fake = ThreadRanks(count)
        monkeypatch.setattr(gathering, "distributed", fake)
        return fake

    return believe


@pytest.fixture
def in_threads(as_ranks: Callable[[int], ThreadRanks]) -> Callable[[int, Callable[[int], Any]], list[Any]]:
    """What `work(rank)` returns on each of `count` ranks."""

    def run(count: int, work: Callable[[int], Any]) -> list[Any]:
        fake = as_ranks(count)

        def one(rank: int) -> Any:
            fake.own.rank = rank
            return work(rank)

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    return run
