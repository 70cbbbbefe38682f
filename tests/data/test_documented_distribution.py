"""The documented way of training in several processes: two real ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

RANK = """
import json, os, sys, warnings
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from RAG_supporters.dataset import create_loader, set_epoch

dist.init_process_group(backend="gloo")
local_rank = int(os.environ["LOCAL_RANK"])
warnings.simplefilter("ignore", UserWarning)
model = DDP(torch.nn.Linear(6, 6))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
seen = {}
for split, size in (("train", 4), ("val", 3)):
    loader = create_loader(
        dataset_dir="./odd", split=split, batch_size=size, num_workers=1, distributed=True
    )
    for epoch in range(2):
        set_epoch(loader, epoch)  # of sampler and dataset
        rows = []
        for batch in loader:
            rows += batch["relevance"].tolist()
            if split == "train":
                optimizer.zero_grad()
                (model(batch["question_emb"]) - batch["target_source_emb"]).square().mean().backward()
                optimizer.step()
        seen[f"{split} {epoch}"] = rows
seen["weights"] = model.module.weight.flatten().tolist()
dist.destroy_process_group()
print(json.dumps(seen))
"""


def ranks(code: str, count: int, folder: Path, repository: Path) -> list[str]:
    """Standard output of `count` processes with the environment that torchrun gives them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(count):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in place.items()}
        environment |= {"PYTHONPATH": str(repository / "src"), "GLOO_SOCKET_IFNAME": "lo"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            outputs.append(output)
    finally:
        for process in processes:
            process.kill()
    return outputs


@pytest.mark.slow
def test_distributed_training_shares_the_samples_out(make: Callable[..., Any], repository: Path) -> None:
    # Three pairs for two ranks: one rank must get one less.
    made = make("ours", name="odd", val_idx=torch.arange(32, 35))
    one, other = (json.loads(output) for output in ranks(RANK, 2, made.root.parent, repository))
    for split, sizes in (("train", (16, 16)), ("val", (2, 1))):
        wanted = made.tensors["pair_relevance"][made.tensors[f"{split}_idx"]].tolist()
        for epoch in range(2):
            mine, theirs = one[f"{split} {epoch}"], other[f"{split} {epoch}"]
            assert not set(mine) & set(theirs)
            # Nothing is left out and nothing stands in for what is not there.
            assert sorted(mine + theirs) == pytest.approx(sorted(wanted))
            assert (len(mine), len(theirs)) == sizes
    assert one["train 0"] != one["train 1"]
    assert one["val 0"] == one["val 1"]
    assert one["weights"] == other["weights"]
