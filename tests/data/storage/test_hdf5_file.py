from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.errors import InputError

h5py = pytest.importorskip("h5py")


@pytest.fixture
def in_one_file(original: Any) -> Any:
    """A directory as the original project converts it: one small dataset of keywords for each pair."""
    paths = {
        "embeddings/questions": "question_embs",
        "embeddings/sources": "source_embs",
        "embeddings/keywords": "keyword_embs",
        "embeddings/centroids": "centroid_embs",
        "pair_data/index": "pair_index",
        "pair_data/cluster_id": "pair_cluster_id",
        "pair_data/relevance": "pair_relevance",
        "negatives/hardnegatives": "hard_negatives",
        "negatives/tiers": "negative_tiers",
        "steering/centroid": "steering_centroid",
        "steering/keyword_weighted": "steering_keyword_weighted",
        "steering/residual": "steering_residual",
        "steering/distances": "centroid_distances",
        "splits/train": "train_idx",
        "splits/val": "val_idx",
        "splits/test": "test_idx",
    }
    with h5py.File(original.root / "dataset.h5", "w") as file:
        for path, name in paths.items():
            file.create_dataset(path, data=original.tensors[name].numpy(), compression="gzip")
        for pair, rows in enumerate(original.keywords):
            file.create_dataset(f"pair_data/keyword_ids/{pair}", data=np.array(rows, dtype=np.int32))
    for path in original.root.glob("*.pt"):
        path.unlink()
    return original


def changed(root: Path, name: str, value: Any) -> None:
    with h5py.File(root / "dataset.h5", "a") as file:
        del file[name]
        if value is not None:
            file[name] = value


def test_a_directory_of_one_file_serves_the_same(in_one_file: Any) -> None:
    splits = JASPERSteeringDataset.create_combined_splits(in_one_file.root)
    assert {name: len(split) for name, split in splits.items()} == {"train": 32, "val": 4, "test": 4}
    for place, pair in enumerate(in_one_file.tensors["val_idx"].tolist()):
        sample = splits["val"][place]
        expected = in_one_file.sample(pair, int(sample["steering_variant"]))
        assert all(torch.equal(sample[key], expected[key]) for key in expected)
    assert splits["val"].pair_keyword_ids.to_lists() == in_one_file.keywords


def test_split_and_newer_negative_files_beside_it_count(in_one_file: Any) -> None:
    changed(in_one_file.root, "splits/val", None)
    torch.save(torch.tensor([33, 32]), in_one_file.root / "val_idx.pt")
    fresh = (in_one_file.tensors["hard_negatives"] + 1) % 40
    torch.save(fresh, in_one_file.root / "hard_negatives.pt")
    os.utime(in_one_file.root / "hard_negatives.pt", (1, 1))
    with pytest.warns(UserWarning, match="2 of 40 pairs are in no split"):
        dataset = JASPERSteeringDataset(in_one_file.root, "val", storage_format="hdf5")
    assert dataset.split_indices.tolist() == [33, 32]
    assert torch.equal(dataset.hard_negatives, in_one_file.tensors["hard_negatives"])
    os.utime(in_one_file.root / "hard_negatives.pt")
    assert dataset.reload_negatives()
    assert torch.equal(dataset.hard_negatives, fresh)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("embeddings/sources", None, "there is no source_embs"),
        ("embeddings/sources", "text", "embeddings/sources is no array of numbers"),
        ("embeddings/sources", np.zeros((40, 5), np.float32), "has shape"),
        ("embeddings/sources", np.full((40, 6), np.nan, np.float32), "row 0, column 0 is nan"),
        ("pair_data/cluster_id", np.full(40, 9), "row 0 is 9; allowed: 0 to 3"),
        ("pair_data/index", np.zeros((40, 2), np.int32), "holds int32, int64 is expected"),
        ("pair_data/keyword_ids", None, "there is no pair_keyword_ids"),
        ("pair_data/keyword_ids/7", None, "pair_data/keyword_ids/7"),
        ("pair_data/keyword_ids/7", np.zeros(2), "pair_data/keyword_ids/7: a list of whole numbers"),
        ("pair_data/keyword_ids/7", np.array([7]), "row 7 holds keyword 7"),
    ],
)
def test_a_fault_is_named(in_one_file: Any, name: str, value: Any, problem: str) -> None:
    changed(in_one_file.root, name, value)
    with pytest.raises(InputError, match=problem):
        JASPERSteeringDataset(in_one_file.root, "train")


def test_flat_lists_need_offsets(in_one_file: Any) -> None:
    changed(in_one_file.root, "pair_data/keyword_ids", None)
    with h5py.File(in_one_file.root / "dataset.h5", "a") as file:
        file["pair_data/keyword_ids/values"] = np.zeros(3, np.int64)
    with pytest.raises(InputError, match="has no 'offsets'"):
        JASPERSteeringDataset(in_one_file.root, "train")


def test_rubbish_is_refused(in_one_file: Any) -> None:
    (in_one_file.root / "dataset.h5").write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"dataset\.h5: not a readable HDF5 file"):
        JASPERSteeringDataset(in_one_file.root, "train")


def test_it_cannot_be_mapped(in_one_file: Any) -> None:
    with pytest.raises(InputError, match="cannot be mapped"):
        JASPERSteeringDataset(in_one_file.root, "train", use_mmap=True)


def test_without_h5py_the_extra_is_named(in_one_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install 'jasper-rag\[hdf5\]'"):
        JASPERSteeringDataset(in_one_file.root, "train")


def test_tensor_files_go_before_one_file(in_one_file: Any) -> None:
    for name, tensor in in_one_file.tensors.items():
        torch.save(tensor, in_one_file.root / f"{name}.pt")
    torch.save(in_one_file.keywords, in_one_file.root / "pair_keyword_ids.pt")
    (in_one_file.root / "dataset.h5").write_bytes(b"rubbish")
    assert len(JASPERSteeringDataset(in_one_file.root, "train")) == 32
    assert json.loads((in_one_file.root / "config.json").read_text())["n_neg"] == 3
