"""The scripts under `examples/`, as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.build.build_config import BuildConfig
from jasper_rag.build.build_input import BuildInput
from jasper_rag.build.build_plan import plan_build
from jasper_rag.build.dataset_builder import build_dataset
from jasper_rag.build.dataset_files import write_dataset
from jasper_rag.embedding.embedding_store import EmbeddingStore
from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import RetrievalSet
from jasper_rag.training.checkpointing import read_checkpoint

TINY = """
model: {hidden_dim: 16, num_layers: 2, dropout: 0.2}
ema: {target: ema}
training: {batch_size: 4, num_epochs: 8, save_every_n_epochs: 1, keep_last_n_checkpoints: 20, device: cpu}
"""


@pytest.fixture
def arguments(synonym_set: RetrievalSet, word_encoder: Encoder, tmp_path: Path, repository: Path) -> list[str]:
    """The documented command on a dataset of 128 train pairs, up to its output directory."""
    config = BuildConfig.model_validate({"n_clusters": 4})
    plan = plan_build(BuildInput(synonym_set), config)
    built = build_dataset(plan, word_encoder, EmbeddingStore(tmp_path / "store"))
    dataset = write_dataset(built, tmp_path / "dataset")
    settings = tmp_path / "tiny.yaml"
    settings.write_text(TINY)
    script = repository / "examples" / "train_jasper_predictor.py"
    return [sys.executable, str(script), "--config", str(settings), "--dataset-dir", str(dataset), "--output-dir"]


def same(one: Any, other: Any) -> bool:
    """Bit for bit, but for the time that epochs took."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        keys = set(one) - {"epoch_time_s", "checkpoint_dir"}
        return keys == set(other) - {"epoch_time_s", "checkpoint_dir"} and all(same(one[k], other[k]) for k in keys)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_jasper_predictor.py", "train_subspace_jasper.py"])
def test_the_script_answers(repository: Path, name: str) -> None:
    script = repository / "examples" / name
    asked = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    for flag in ("--config", "--dataset-dir", "--output-dir", "--resume", "--epochs", "--device", "--debug"):
        assert flag in asked.stdout
    command = [sys.executable, str(script), "--dataset-dir", "nowhere"]
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(f"{name}: nowhere")


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_run(arguments: list[str], tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = subprocess.run([*arguments, str(whole)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen([*arguments, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kept = killed / "checkpoints" / "epoch_0002.pt"
    for _ in range(6000):
        if kept.is_file() or process.poll() is not None:
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "checkpoints" / "final.pt").exists()
    again = subprocess.run(
        [*arguments, str(killed), "--resume", str(kept)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "going on after epoch 2 of" in again.stderr
    for name in ("best.pt", "final.pt", "epoch_0007.pt"):
        assert same(*(read_checkpoint(root / "checkpoints" / name) for root in (whole, killed))), name
    assert (whole / "metrics.json").read_text() == (killed / "metrics.json").read_text()
    assert len((killed / "metrics.jsonl").read_text().splitlines()) == 8
