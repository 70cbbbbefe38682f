from __future__ import annotations

import torch
from torch import nn

from jasper_rag.training.cached_gradients import CachedOutputs


def gradients(keep_graph: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Of a loss over two parts that needs both, with dropout; and the next random number."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3))
        first, second = torch.randn(5, 4), torch.randn(7, 4)
        cached = CachedOutputs([lambda: net(first), lambda: net(second)])
        outputs = cached.forward(keep_graph=keep_graph)
        loss = (outputs[0] @ outputs[1].T).logsumexp(dim=1).sum()
        torch.autograd.backward(loss)
        cached.backward()
        return [parameter.grad for parameter in net.parameters() if parameter.grad is not None], torch.rand(3)


def test_they_are_those_of_the_whole_batch_with_the_same_dropout() -> None:
    (whole, following), (parted, following_) = gradients(True), gradients(False)
    assert len(whole) == len(parted) == 4
    for one, other in zip(whole, parted, strict=True):
        torch.testing.assert_close(one, other)
    # Random numbers go on as if every part had been run once.
    assert torch.equal(following, following_)


def test_a_part_that_the_loss_leaves_out_is_not_run_again() -> None:
    calls: list[int] = []
    weight = nn.Parameter(torch.ones(2))

    def part(number: int) -> torch.Tensor:
        calls.append(number)
        return weight * number

    cached = CachedOutputs([lambda: part(1), lambda: part(2)])
    outputs = cached.forward(keep_graph=False)
    torch.autograd.backward(outputs[0].sum())
    cached.backward()
    assert calls == [1, 2, 1]
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 1.0]
