from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jasper_rag.data.findings import DatasetWarning
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["question_embs.safetensors", "documents.jsonl", "clusters.json"])
def test_an_altered_file_is_named(ours: Any, name: str) -> None:
    flip(ours.root / name)
    with pytest.raises(InputError, match=f"{name}: altered or cut: its SHA-256 is"):
        JASPERSteeringDataset(ours.root, "train")
    (ours.root / name).unlink()
    with pytest.raises(InputError, match=r"is missing, but checksums\.json names it|there is no question_embs"):
        JASPERSteeringDataset(ours.root, "train")


def test_verification_can_be_left_out(ours: Any) -> None:
    flip(ours.root / "source_embs.safetensors")
    assert len(JASPERSteeringDataset(ours.root, "train", verify=False)) == 32
    assert len(JASPERSteeringDataset(ours.root, "train", use_mmap=True)) == 32
    with pytest.raises(InputError, match="altered"):
        JASPERSteeringDataset(ours.root, "train", use_mmap=True, verify=True)


def test_negatives_stand_outside(ours: Any) -> None:
    torch.save((ours.tensors["hard_negatives"] + 1) % 40, ours.root / "hard_negatives.pt")
    JASPERSteeringDataset(ours.root, "train")
    checksums = json.loads((ours.root / "checksums.json").read_text())
    checksums["files"]["hard_negatives.pt"] = "0" * 64
    (ours.root / "checksums.json").write_text(json.dumps(checksums))
    with pytest.raises(InputError, match="no list of checksums"):
        JASPERSteeringDataset(ours.root, "train")


def test_missing_checksums_are_said(ours: Any) -> None:
    (ours.root / "checksums.json").unlink()
    with pytest.warns(DatasetWarning, match=r"checksums\.json is missing"):
        JASPERSteeringDataset(ours.root, "train")


@pytest.mark.parametrize(
    "change",
    [
        lambda checksums: [],
        lambda checksums: checksums | {"format_version": 2},
        lambda checksums: checksums | {"algorithm": "md5"},
        lambda checksums: checksums | {"files": {"train_idx.safetensors": "abc"}},
        lambda checksums: checksums | {"files": {"../train_idx.safetensors": "0" * 64}},
        lambda checksums: checksums | {"files": []},
    ],
)
def test_damaged_checksums_are_refused(ours: Any, change: Callable[[Any], Any]) -> None:
    path = ours.root / "checksums.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match="no list of checksums"):
        JASPERSteeringDataset(ours.root, "train")


def test_every_file_in_use_must_be_named(ours: Any) -> None:
    path = ours.root / "checksums.json"
    checksums = json.loads(path.read_text())
    del checksums["files"]["val_idx.safetensors"]
    path.write_text(json.dumps(checksums))
    with pytest.raises(InputError, match=r"has no checksum of val_idx\.safetensors"):
        JASPERSteeringDataset(ours.root, "train")
