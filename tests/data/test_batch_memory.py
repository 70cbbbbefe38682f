from __future__ import annotations

import copy
import pickle

import torch

from jasper_rag.data.batch_memory import BatchMemory


def test_memory_in_use_is_never_given_again() -> None:
    memory = BatchMemory()
    held = []
    for number in range(20):
        tensor = memory.empty(4, 3).fill_(number)
        # A view is as good as the tensor: only the first row stays.
        held.append(tensor[0] if number % 2 else tensor.view(2, 6).numpy())
        del tensor
    assert [float(part.ravel()[0]) for part in held] == list(range(20))


def test_memory_let_go_is_used_again() -> None:
    memory = BatchMemory()
    places = set()
    tensor = None
    for _ in range(20):
        tensor = memory.empty(400, 300)
        places.add(tensor.data_ptr())
    assert len(places) <= 3


def test_a_smaller_batch_fits_and_a_tiny_one_does_not_hold_a_large_block() -> None:
    memory = BatchMemory()
    large = memory.empty(100, 4).data_ptr()
    assert memory.empty(60, 4).data_ptr() == large
    tiny = memory.empty(1, 4)
    assert tiny.untyped_storage().nbytes() == 16
    assert memory.empty(200, 4).shape == (200, 4)
    assert memory.empty(0, 4).shape == (0, 4)


def test_copies_start_empty() -> None:
    memory = BatchMemory()
    mine = memory.empty(5, 5).fill_(1)
    for other in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        other.empty(5, 5).fill_(2)
    assert torch.equal(mine, torch.ones(5, 5))
