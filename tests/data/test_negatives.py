from __future__ import annotations

import os
import threading

import pytest
import torch

from jasper_rag.data.negatives import HardNegatives
from jasper_rag.data.shared_tensors import shared_copy

CPU = torch.device("cpu")


def test_a_shared_copy_is_a_copy() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    shared = shared_copy(tensor)
    shared += 1
    assert torch.equal(shared, tensor + 1)
    assert shared_copy(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.slow
def test_a_forked_process_sees_changes_of_its_parent() -> None:
    shared = shared_copy(torch.zeros(3, dtype=torch.int64))
    to_child, from_parent = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(to_child, 1)
        os._exit(int(shared[1]))
    shared[1] = 7
    os.write(from_parent, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    os.close(to_child)
    os.close(from_parent)


def test_no_batch_mixes_old_and_new() -> None:
    count = 2000
    negatives = HardNegatives(torch.zeros(count, 4).long(), torch.ones(count, 4).long(), CPU)
    rows = torch.arange(count)
    stop = threading.Event()

    def exchange() -> None:
        for number in range(1, 200):
            negatives.exchange(torch.full((count, 4), number), torch.full((count, 4), number + 1))
        stop.set()

    writer = threading.Thread(target=exchange)
    writer.start()
    while not stop.is_set():
        ids, tiers = negatives.take(rows)
        assert len(ids.unique()) == 1  # type: ignore[no-untyped-call]
        assert torch.equal(ids + 1, tiers)
    writer.join()
    assert negatives.exchanges == 199


def test_another_shape_is_refused() -> None:
    negatives = HardNegatives(torch.zeros(3, 2).long(), torch.ones(3, 2).long(), CPU)
    with pytest.raises(ValueError, match=r"expected \[3, 2\] twice"):
        negatives.exchange(torch.zeros(3, 2).long(), torch.zeros(3, 1).long())
    assert negatives.exchanges == 0
