"""Scores of negatives and clusters of sources: what a directory may say besides."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jasper_rag import dataset_layout as layout
from jasper_rag.data import dataset_directory
from jasper_rag.data.conversion import TargetFormat, convert_dataset
from jasper_rag.data.findings import DatasetWarning
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError

Build = dict[str, Tensor]


def mine(root: Path, tensors: Build, scores: Tensor, suffix: str = ".safetensors", mark: str | None = None) -> None:
    """Write negatives and their scores as the builder does."""
    mined = [tensors["hard_negatives"], tensors["negative_tiers"], scores]
    metadata = {"mining": mark or layout.mining_mark(tensor.numpy().tobytes() for tensor in mined)}
    for name, tensor in zip(layout.MINED_TENSORS, mined, strict=True):
        if suffix == ".pt" and name != "negative_scores":
            torch.save(tensor, root / f"{name}.pt")
        else:
            save_file({name: tensor.contiguous()}, root / f"{name}.safetensors", metadata)


@pytest.fixture
def scored(original: Any) -> Any:
    """A directory that says everything; without checksums."""
    questions = original.tensors["question_embs"][original.tensors["pair_index"][:, 0]]
    sources = original.tensors["source_embs"][original.tensors["hard_negatives"]]
    original.tensors["negative_scores"] = torch.einsum("pd,pnd->pn", questions, sources)
    original.tensors["source_cluster_id"] = torch.arange(40) % 4
    save_file(
        {"source_cluster_id": original.tensors["source_cluster_id"]}, original.root / "source_cluster_id.safetensors"
    )
    mine(original.root, original.tensors, original.tensors["negative_scores"])
    return original


def test_they_are_served_where_they_are(scored: Any) -> None:
    splits = JASPERSteeringDataset.create_combined_splits(scored.root)
    for dataset in splits.values():
        assert dataset.negative_scores is not None
        assert torch.equal(dataset.negative_scores, scored.tensors["negative_scores"])
        assert dataset.source_cluster_id is not None
        assert torch.equal(dataset.source_cluster_id, scored.tensors["source_cluster_id"])
    held = splits["val"].tensors
    without = sum(tensor.nbytes for tensor in held.all_tensors().values())
    lists = held.keywords.values.nbytes + held.keywords.offsets.nbytes
    assert held.bytes_in_memory() == without + lists + 40 * 3 * 4 + 40 * 8


@pytest.mark.parametrize("kind", ["ours", "original"])
def test_nobody_misses_them(make: Callable[..., Any], kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = JASPERSteeringDataset(make(kind).root, "train")
    assert dataset.negative_scores is None
    assert dataset.source_cluster_id is None


@pytest.mark.parametrize(
    ("name", "tensor", "problem"),
    [
        ("negative_scores", torch.zeros(40, 2), "has shape [40, 2], [40, 3] is expected"),
        ("negative_scores", torch.zeros(40, 3).double(), "holds float64, float32 is expected"),
        ("negative_scores", torch.full((40, 3), 1.5), "row 0, column 0 is 1.5; allowed: -1 to 1"),
        ("negative_scores", torch.full((40, 3), torch.nan), "row 0, column 0 is nan"),
        ("source_cluster_id", torch.zeros(39).long(), "has shape [39], [40] is expected"),
        ("source_cluster_id", torch.zeros(40), "holds float32, int64 is expected"),
        ("source_cluster_id", torch.arange(40), "row 4 is 4; allowed: 0 to 3: centroid_embs has 4 rows"),
    ],
)
def test_what_they_hold_is_checked(
    scored: Any, monkeypatch: pytest.MonkeyPatch, name: str, tensor: Tensor, problem: str
) -> None:
    mark = {"mining": "0" * 64}
    save_file({name: tensor}, scored.root / f"{name}.safetensors", mark if name == "negative_scores" else None)
    monkeypatch.setattr(dataset_directory, "_ATTEMPTS", 1)
    with pytest.raises(InputError) as caught:
        JASPERSteeringDataset(scored.root, "train")
    assert problem in str(caught.value)
    assert caught.value.path == scored.root / f"{name}.safetensors"


@pytest.mark.parametrize("name", ["negative_scores", "source_cluster_id"])
def test_a_cut_file_is_refused(scored: Any, name: str) -> None:
    path = scored.root / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="cannot be read"):
        JASPERSteeringDataset(scored.root, "train")


@pytest.mark.slow
def test_other_negatives_leave_the_scores_behind(scored: Any) -> None:
    dataset = JASPERSteeringDataset(scored.root, "train")
    torch.save((scored.tensors["hard_negatives"] + 1) % 40, scored.root / "hard_negatives.pt")
    assert dataset.reload_negatives()
    assert dataset.negative_scores is None
    assert JASPERSteeringDataset(scored.root, "train").negative_scores is None


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_new_scores_come_with_their_negatives(scored: Any, suffix: str) -> None:
    dataset = JASPERSteeringDataset(scored.root, "train")
    fresh = scored.tensors | {"hard_negatives": (scored.tensors["hard_negatives"] + 1) % 40}
    mine(scored.root, fresh, torch.full((40, 3), 0.25), suffix)
    assert dataset.reload_negatives()
    assert dataset.negative_scores is not None
    assert dataset.negative_scores.eq(0.25).all()


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["value", "mining"])
def test_scores_of_other_negatives_are_told_of_and_left_out(
    scored: Any, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_directory, "_PAUSE", 0)
    scores = scored.tensors["negative_scores"]
    mined = [scored.tensors["hard_negatives"], scored.tensors["negative_tiers"], scores]
    mark = layout.mining_mark(tensor.numpy().tobytes() for tensor in mined)
    save_file(
        {"negative_scores": -scores if changed == "value" else scores},
        scored.root / "negative_scores.safetensors",
        {"mining": mark if changed == "value" else "0" * 64},
    )
    with pytest.warns(DatasetWarning, match="negative_scores are not those of hard_negatives and negative_tiers"):
        dataset = JASPERSteeringDataset(scored.root, "train")
    assert dataset.negative_scores is None


@pytest.mark.slow
def test_rows_and_tiers_of_two_minings_are_refused(scored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_directory, "_PAUSE", 0)
    dataset = JASPERSteeringDataset(scored.root, "train")
    before = dataset.negative_scores
    tiers = {"negative_tiers": scored.tensors["negative_tiers"]}
    mine(scored.root, scored.tensors, scored.tensors["negative_scores"])
    save_file(tiers, scored.root / "negative_tiers.safetensors", {"mining": "1" * 64})
    with pytest.raises(InputError, match="hard_negatives and negative_tiers are of two minings"):
        JASPERSteeringDataset(scored.root, "train")
    with pytest.warns(DatasetWarning, match="the old negatives stay"):
        assert not dataset.reload_negatives()
    assert dataset.negative_scores is before


def test_scores_that_do_not_say_of_which_mining_are_taken(scored: Any) -> None:
    save_file({"negative_scores": torch.zeros(40, 3)}, scored.root / "negative_scores.safetensors")
    scores = JASPERSteeringDataset(scored.root, "train").negative_scores
    assert scores is not None
    assert not scores.any()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["safetensors", "pt", "hdf5"])
def test_every_format_keeps_them(scored: Any, target: TargetFormat) -> None:
    if target == "hdf5":
        pytest.importorskip("h5py")
    converted = convert_dataset(scored.root, scored.root.with_name("converted"), target)
    dataset = JASPERSteeringDataset(converted, "train")
    assert dataset.negative_scores is not None
    assert torch.equal(dataset.negative_scores, scored.tensors["negative_scores"])
    assert dataset.source_cluster_id is not None
