"""The code blocks of the original project's page on training, as they stand there, if the page is at hand.

`JASPER_DOCUMENTS` names the folder of its documents. What the blocks leave out is filled in by `PRELUDE`; `ON_CPU` is
exchanged where there is no GPU, `PLACEHOLDERS` everywhere.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

PRELUDE = """
import os
import warnings
import torch
import torch.nn as nn
import torch.nn.functional as F

warnings.filterwarnings("ignore", "This DataLoader will create")
if not torch.cuda.is_available():
    torch.Tensor.cuda = lambda tensor: tensor
    nn.Module.cuda = lambda module: module
"""
SETTING = """
from RAG_supporters.dataset import create_loader, set_epoch

def batch_loss(model, batch):
    vectors = [batch[key].cuda() for key in ("question_emb", "steering", "target_source_emb", "negative_embs")]
    return contrastive_loss(model(*vectors[:2]), *vectors[2:])

def evaluate(model, loader):
    with torch.no_grad():
        losses = [batch_loss(model, batch).item() for batch in loader]
    return sum(losses) / len(losses)

def train_epoch(model, loader, optimizer):
    losses = []
    for batch in loader:
        loss = batch_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)

train_loader = create_loader("./my_dataset", "train", 128)
val_loader = create_loader("./my_dataset", "val", 128)
embedding_dim = train_loader.dataset_obj.embedding_dim
model = SimpleJASPERPredictor(embedding_dim).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
"""
PLACEHOLDERS = {"# Train...": "pass", "range(100)": "range(12)", "NUM_EPOCHS = 100": "NUM_EPOCHS = 12"}
ON_CPU = {
    '"cuda"': '"cpu"',
    '"nccl"': '"gloo"',
    "torch.cuda.set_device(local_rank)": "",
    "device_ids=[local_rank]": "device_ids=None",
}
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TITLE = "# Training Example: JASPER Steering Dataset"
BLOCKS = 11


def documented_blocks() -> list[str]:
    """Python blocks of the page, filled in."""
    for path in sorted(Path(os.environ["JASPER_DOCUMENTS"]).iterdir()):
        text = path.read_text(encoding="utf-8")
        if _TITLE in text.splitlines()[:3]:
            blocks = _BLOCK.findall(text)
            exchanged = PLACEHOLDERS | ({} if torch.cuda.is_available() else ON_CPU)
            for old, new in exchanged.items():
                blocks = [block.replace(old, new) for block in blocks]
            return blocks
    pytest.fail(f"JASPER_DOCUMENTS has no page with the title {_TITLE!r}")


@pytest.mark.slow
@pytest.mark.skipif("JASPER_DOCUMENTS" not in os.environ, reason="JASPER_DOCUMENTS names no folder")
@pytest.mark.parametrize("number", range(BLOCKS))
def test_a_block_runs(make: Callable[..., Any], repository: Path, number: int) -> None:
    blocks = documented_blocks()
    assert len(blocks) == BLOCKS
    folder = make("ours", name="my_dataset").root.parent
    before = [PRELUDE, *blocks[: min(number, 2)], *([SETTING] if number >= 2 else [])]
    script = "\n\n".join([*before, blocks[number], "assert True"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | alone | {"PYTHONPATH": str(repository / "src"), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
