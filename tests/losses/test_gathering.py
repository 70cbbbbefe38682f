"""Two ranks with half the batch each learn what one process with the whole batch learns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from jasper_rag.losses.gathering import first_row, gather_rows, over_all_ranks, ranks, weighted_mean
from jasper_rag.losses.jasper_losses import ContrastiveLoss, JASPERLoss, JASPERMultiObjectiveLoss

InThreads = Callable[[int, Callable[[int], Any]], list[Any]]

B, D, K, C, M = 8, 4, 2, 3, 30
CASES = ("sources", "batch", "batch-weighted", "sources-weighted", "hard", "sum")


class Maps(nn.Module):
    """A predictor and a source encoder, both learning."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.predictor, self.encoder = (
            nn.Parameter(torch.randn(D, D, generator=generator, dtype=torch.float64)) for _ in range(2)
        )

    def forward(self, questions: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        return questions @ self.predictor, sources @ self.encoder


def share(case: str, model: nn.Module, rank: int, count: int) -> Tensor:
    """The loss of this rank's part of the joint batch."""
    generator = torch.Generator().manual_seed(0)
    part = slice(rank * B // count, (rank + 1) * B // count)
    questions = torch.randn(B, D, generator=generator, dtype=torch.float64)[part]
    rows = torch.randint(M, (B,), generator=generator)
    rows[-1] = rows[0]  # the same source on two ranks
    known = torch.randint(-1, M, (B, 3), generator=generator)
    known[1, 0] = rows[-2]
    negative_rows = torch.randint(M, (B, K), generator=generator)[part]
    weight = torch.rand(B, generator=generator, dtype=torch.float64)
    weight[: B // 2] *= 0.1
    clusters = torch.randint(C, (B,), generator=generator)
    frozen = torch.randn(M, D, generator=generator, dtype=torch.float64)
    predicted, sources = model(questions, frozen)
    given: dict[str, Any] = {"target_rows": rows[part], "known_positives": known[part], "negative_rows": negative_rows}
    if "sources" in case:
        given["sources"] = sources
    if "weighted" in case or case == "sum":
        given["weight"] = weight[part]
    target, negatives = sources[rows[part]], sources[negative_rows]
    if case == "sum":
        found: Tensor = ContrastiveLoss(reduction="sum")(predicted, target, negatives, **given)["contrastive"]
        for weights in (None, given["weight"]):
            found = found + JASPERLoss(reduction="sum")(predicted, frozen[rows[part]], weight=weights)["jasper"]
        return found
    loss = JASPERMultiObjectiveLoss(in_batch=case != "hard")
    total: Tensor = loss(
        predicted, frozen[rows[part]], negatives, frozen[:C], clusters[part], contrastive_target=target, **given
    )[0]
    return total


def learnt(case: str, model: nn.Module, rank: int, count: int) -> Tensor:
    """Loss and gradients as one vector."""
    value = share(case, model, rank, count)
    torch.autograd.backward(value)
    gradients = [parameter.grad for parameter in model.parameters()]
    return torch.cat([value.detach().reshape(1), *(each.flatten() for each in gradients if each is not None)])


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_ranks_learn_what_one_process_would(case: str, count: int, in_threads: InThreads) -> None:
    expected = learnt(case, Maps(), 0, 1)
    found = in_threads(count, lambda rank: learnt(case, Maps(), rank, count))
    torch.testing.assert_close(torch.stack(found).mean(dim=0), expected)


@pytest.mark.slow
def test_two_processes_under_ddp_learn_what_one_process_would(tmp_path: Path) -> None:
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE) for rank in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    for case in CASES:
        expected = learnt(case, Maps(), 0, 1)
        # DDP has averaged the gradients; each rank keeps the loss of its own part.
        torch.testing.assert_close(first[case][1:], expected[1:])
        assert torch.equal(first[case][1:], second[case][1:])
        torch.testing.assert_close((first[case][0] + second[case][0]) / 2, expected[0])


def test_alone_nothing_changes() -> None:
    rows, mean = torch.randn(3, 2), torch.tensor(2.0)
    assert gather_rows(rows) is rows
    assert (ranks(), first_row(3)) == (1, 0)
    assert over_all_ranks(mean, None, "mean", 3) is mean
    assert over_all_ranks(mean, torch.ones(3), "mean", 3) is mean
    assert over_all_ranks(mean, None, "sum", 3) == 6
    assert over_all_ranks(mean, torch.tensor([0.5, 1.0, 2.5]), "sum", 3) == 8


def test_without_gradient_a_batch_stands_for_itself(
    as_ranks: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_ranks(2)  # the other rank never comes
    with torch.no_grad():
        found = share("batch-weighted", Maps(), 0, 1)
    monkeypatch.undo()
    torch.testing.assert_close(found, share("batch-weighted", Maps(), 0, 1).detach())


def test_rows_are_gathered_in_the_order_of_ranks(in_threads: InThreads) -> None:
    def work(rank: int) -> tuple[list[int], list[float], int]:
        numbers = gather_rows(torch.tensor([rank, 10 + rank]))
        rows = torch.ones(2, 1, requires_grad=True)
        (gradient,) = torch.autograd.grad((gather_rows(rows) * torch.arange(4.0)[:, None]).sum(), rows)
        return numbers.tolist(), gradient.flatten().tolist(), first_row(2)

    first, second = in_threads(2, work)
    # The sum over ranks of each rank's gradient for the rows it owns.
    assert first == ([0, 10, 1, 11], [0.0, 2.0], 0)
    assert second == ([0, 10, 1, 11], [4.0, 6.0], 2)


def test_weighted_mean() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    assert weighted_mean(values, None) == 3
    assert weighted_mean(values, torch.tensor([1.0, 1.0, 0.0])) == 1.5
    assert weighted_mean(values, torch.zeros(3)) == 0


def main(directory: Path, rank: int) -> None:
    """One of two ranks: every case under DDP, written to a file."""
    distributed.init_process_group("gloo", init_method=f"file://{directory / 'meeting'}", rank=rank, world_size=2)
    found = {}
    for case in CASES:
        found[case] = learnt(case, DistributedDataParallel(Maps()), rank, 2)
    save_file(found, directory / f"{rank}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
