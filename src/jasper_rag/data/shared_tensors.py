"""Tensors that worker processes see change: anonymous shared memory.

A worker gets its copy of a dataset when it starts; persistent workers keep it. What may change after that (the epoch,
the forced variant, the negatives) therefore lives in memory that both processes map.
"""

from __future__ import annotations

import mmap

import numpy as np
import torch
from torch import Tensor


def shared_copy(tensor: Tensor) -> Tensor:
    """A copy on the CPU whose memory processes forked or spawned later share.

    Forked processes inherit the mapping; to a spawned one torch moves it when the tensor is sent. Unlike
    `Tensor.share_memory_` nothing is taken of /dev/shm, which is small in containers, as long as nobody spawns. That
    move leaves processes forked before it behind: workers of one dataset should all be started in one way.
    """
    if tensor.numel() == 0:
        return tensor.clone()
    memory = mmap.mmap(-1, tensor.nbytes)
    # The tensor keeps the mapping alive.
    shared = torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)
    # By numpy, in one thread: torch would have several take part, and on a busy machine wait for them.
    np.copyto(shared.numpy(), tensor.cpu().numpy())
    return shared
