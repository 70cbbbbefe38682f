from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jasper_rag.losses.memory_queue import MemoryQueue


def rows(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1).expand(-1, 2).clone()


def test_it_keeps_the_last_rows() -> None:
    queue = MemoryQueue(5, 2)
    assert len(queue.joined(rows(1))) == 1
    for first in range(0, 12, 3):
        queue.push(rows(first, first + 1, first + 2))
        assert len(queue) == min(first + 3, 5)
    assert sorted(queue.rows[:, 0].tolist()) == [7, 8, 9, 10, 11]
    queue.push(rows(*range(20, 28)))
    assert sorted(queue.rows[:, 0].tolist()) == [23, 24, 25, 26, 27]


def test_only_the_new_rows_have_a_gradient() -> None:
    queue = MemoryQueue(4, 2)
    old, new = rows(1, 2).requires_grad_(), rows(3).requires_grad_()
    queue.push(old)
    joined = queue.joined(new)
    queue.push(new)  # must not disturb what was joined before
    torch.autograd.backward(joined.square().sum())
    assert joined[:, 0].tolist() == [3, 1, 2]
    assert new.grad is not None
    assert old.grad is None


def test_a_restored_queue_goes_on_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(3, 2, generator=generator) for _ in range(6)]
    queue, other = MemoryQueue(7, 2), MemoryQueue(7, 2)
    for batch in batches[:3]:
        queue.push(batch)
    other.load_state_dict(
        {name: torch.clone(v) if isinstance(v, Tensor) else v for name, v in queue.state_dict().items()}
    )
    for batch in batches[3:]:
        for one in (queue, other):
            one.push(batch)
        assert torch.equal(queue.joined(batch), other.joined(batch))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 and 2"):
        MemoryQueue(0, 2)
    with pytest.raises(ValueError, match=r"\[1, 3\] for a queue of width 2"):
        MemoryQueue(2, 2).push(torch.ones(1, 3))
