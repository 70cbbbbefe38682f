"""A verb that `torchrun` started several times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def joined() -> Iterator[int | None]:
    """Join the processes that `torchrun` started; yields this one's number, or None where it is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    import torch

    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield torch.distributed.get_rank()
    finally:
        torch.distributed.destroy_process_group()
