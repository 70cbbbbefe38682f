from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jasper_rag.data.findings import DatasetWarning
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError


@pytest.fixture
def fresh(ours: Any) -> Tensor:
    """Other negatives, without faults."""
    old: Tensor = ours.tensors["hard_negatives"]
    return (old + 1) % 40


def write(root: Path, tensor: Tensor, suffix: str, name: str = "hard_negatives", age: float = 0) -> None:
    path = root / f"{name}{suffix}"
    if suffix == ".pt":
        torch.save(tensor, path)
    else:
        save_file({name: tensor.contiguous()}, path)
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "original"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_either_format_is_taken_over(make: Callable[..., Any], fresh: Tensor, kind: str, suffix: str) -> None:
    made = make(kind, name="other")
    splits = JASPERSteeringDataset.create_combined_splits(made.root)
    write(made.root, fresh, suffix)
    assert splits["train"].reload_negatives()
    assert torch.equal(splits["val"].hard_negatives, fresh)
    batch = splits["val"].__getitems__([0]).tensors
    assert torch.equal(batch["negative_embs"][0], made.tensors["source_embs"][fresh[32]])


@pytest.mark.slow
def test_the_newer_file_counts(ours: Any, fresh: Tensor) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    write(ours.root, fresh, ".pt", age=3600)
    dataset.reload_negatives()
    assert torch.equal(dataset.hard_negatives, ours.tensors["hard_negatives"])
    assert torch.equal(JASPERSteeringDataset(ours.root, "train").hard_negatives, ours.tensors["hard_negatives"])
    write(ours.root, ours.tensors["hard_negatives"], ".safetensors", age=7200)
    dataset.reload_negatives()
    assert torch.equal(dataset.hard_negatives, fresh)
    assert torch.equal(JASPERSteeringDataset(ours.root, "train").hard_negatives, fresh)


def test_tiers_come_along(ours: Any, fresh: Tensor) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    write(ours.root, fresh, ".pt")
    write(ours.root, torch.full_like(fresh, 2), ".pt", "negative_tiers")
    dataset.reload_negatives()
    assert torch.equal(dataset.negative_tiers, torch.full_like(fresh, 2))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_half_written_file_leaves_the_old_ones(ours: Any, fresh: Tensor, suffix: str, share: float) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    write(ours.root, fresh, suffix)
    path = ours.root / f"hard_negatives{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.warns(DatasetWarning, match=f"the old negatives stay: .*hard_negatives{suffix}"):
        assert not dataset.reload_negatives()
    assert torch.equal(dataset.hard_negatives, ours.tensors["hard_negatives"])
    path.write_bytes(content)
    assert dataset.reload_negatives()
    assert torch.equal(dataset.hard_negatives, fresh)


def test_a_damaged_file_leaves_the_old_ones(ours: Any, fresh: Tensor) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    write(ours.root, fresh, ".pt")
    path = ours.root / "hard_negatives.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(DatasetWarning, match="the old negatives stay"):
        assert not dataset.reload_negatives()


def test_a_missing_file_leaves_the_old_ones(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    (ours.root / "hard_negatives.safetensors").unlink()
    with pytest.warns(DatasetWarning, match="there is no hard_negatives.safetensors or hard_negatives.pt"):
        assert not dataset.reload_negatives()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensor: tensor + 5, "is 40; allowed: 0 to 39: source_embs has 40 rows"),
        (lambda tensor: tensor[:, :2], r"has shape \[40, 2\], \[40, 3\] is expected"),
        (lambda tensor: tensor[:10], r"has shape \[10, 3\]"),
        (lambda tensor: tensor.float(), "holds float32, int64 is expected"),
    ],
)
def test_whole_files_that_do_not_fit_are_refused(
    ours: Any, fresh: Tensor, change: Callable[[Tensor], Tensor], problem: str
) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    write(ours.root, change(fresh), ".pt")
    with pytest.raises(InputError, match=problem):
        dataset.reload_negatives()
    assert torch.equal(dataset.hard_negatives, ours.tensors["hard_negatives"])


def test_faults_of_the_new_ones_are_counted(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    write(ours.root, ours.tensors["pair_index"][:, 1:].repeat(1, 3), ".pt")
    with pytest.warns(DatasetWarning) as caught:
        assert dataset.reload_negatives()
    said = " ".join(str(warning.message) for warning in caught)
    assert "40 of 40 pairs have duplicate negatives" in said
    assert "120 known positives among the negatives, in 40 of 40 pairs" in said


def test_the_files_are_never_mapped(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train", use_mmap=True)
    for name in ("hard_negatives", "negative_tiers"):
        with open("/proc/self/maps", encoding="utf-8") as maps:
            assert str(ours.root / name) not in maps.read()
        (ours.root / f"{name}.safetensors").write_bytes(b"")
    assert torch.equal(dataset.hard_negatives, ours.tensors["hard_negatives"])
