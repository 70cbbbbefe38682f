"""Two processes with half the batch each learn what one process with the whole batch learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from jasper_rag.training.checkpointing import read_checkpoint
from jasper_rag.training.processes import (
    average_gradients,
    is_first,
    of_the_first,
    several,
    share_parameters,
    summed,
)

CPU = torch.device("cpu")

_WORKER = """
import sys
import torch
from torch import nn
from jasper_rag.training.run_config import load_run_config
from jasper_rag.training.training_run import prepare_run
from jasper_rag.training.processes import average_gradients, is_first, of_the_first, several, share_parameters, summed

rank, count, port, root, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
if count > 1:
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    assert several() and is_first() == (rank == 0)
    assert summed(torch.tensor([float(rank + 1)]), torch.device("cpu")).tolist() == [3.0]
    assert of_the_first({"b": rank + 5.0, "a": 1.0 - rank}, torch.device("cpu")) == {"a": 1.0, "b": 5.0}
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, float(rank))
    share_parameters([layer])
    assert not layer.weight.any()
    layer.weight.grad = torch.full((2, 2), float(rank))
    average_gradients(layer.parameters())
    assert layer.weight.grad.tolist() == [[0.5, 0.5], [0.5, 0.5]]
config = load_run_config(None, {
    "model.hidden_dim": 8, "model.num_layers": 2, "model.dropout": 0.0, "model.embedding_dim": 8, "dataset.n_neg": 3,
    "ema.target": "ema", "loss.negatives": sys.argv[6], "training.device": "cpu", "training.batch_size": 16 // count,
    "training.num_epochs": 3, "training.warmup_epochs": 1, "training.learning_rate": 0.01,
    "training.save_every_n_epochs": 1,
})
run = prepare_run(config, root, f"{output}/{rank}", distributed=count > 1)
run.trainer.fit()
if count > 1:
    torch.distributed.destroy_process_group()
"""


def test_a_process_on_its_own_has_nothing_to_share() -> None:
    assert not several()
    assert is_first()
    layer = nn.Linear(2, 2)
    layer.weight.grad = torch.ones(2, 2)
    average_gradients(layer.parameters())
    share_parameters([layer])
    assert torch.equal(layer.weight.grad, torch.ones(2, 2))
    numbers = torch.tensor([1.0])
    assert summed(numbers, CPU) is numbers
    metrics = {"a": 1.0}
    assert of_the_first(metrics, CPU) is metrics


def run(count: int, root: Path, output: Path, negatives: str, port: int) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, *map(str, (rank, count, port, root, output, negatives))],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["sources", "batch"])
def test_two_processes_train_as_one_with_their_batches_together(
    steering_root: Path, tmp_path: Path, negatives: str
) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run(1, steering_root, tmp_path / "one", negatives, port)
    run(2, steering_root, tmp_path / "two", negatives, port)
    one, two = (read_checkpoint(tmp_path / name / "0" / "checkpoints" / "final.pt") for name in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 6
    for part in ("model_state_dict", "ema_state_dict"):
        for name, tensor in one[part].items():
            if isinstance(tensor, torch.Tensor):
                torch.testing.assert_close(two[part][name], tensor, atol=1e-6, rtol=1e-5)
    for ours, theirs in zip(one["history"], two["history"], strict=True):
        # Means over all pairs, not over those of the first process.
        for name in ("train/total", "train/contrastive", "train/steering_zero", "val/ndcg@10"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3), name
    # Only the first process writes.
    written = {
        path.relative_to(tmp_path / "two").as_posix() for path in (tmp_path / "two").rglob("*") if path.is_file()
    }
    assert written
    assert all(name.startswith("0/") for name in written)
