from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from jasper_rag.data.dataset_directory import open_dataset
from jasper_rag.errors import InputError
from jasper_rag.explain.source_topics import source_topics


def test_clusters_are_those_of_the_directory(dataset: Path) -> None:
    opened = open_dataset(dataset, torch.device("cpu"))
    kept = load_file(dataset / "source_cluster_id.safetensors")["source_cluster_id"]
    np.testing.assert_array_equal(source_topics(opened), kept)


@pytest.mark.slow
def test_without_the_file_pairs_vote_and_the_nearest_centroid_takes_the_rest(dataset: Path, foreign: Path) -> None:
    opened = open_dataset(foreign, torch.device("cpu"))
    kept = load_file(dataset / "source_cluster_id.safetensors")["source_cluster_id"]
    np.testing.assert_array_equal(source_topics(opened), kept)
    pairs = opened.tensors["pair_index"]
    # Source 0: two pairs say 3, one says 1; source 1: one says 2, one says 1; source 2 has no pair.
    rows = torch.tensor([0, 0, 0, 1, 1])
    opened.tensors["pair_index"] = torch.stack([pairs[:5, 0], rows], dim=1)
    opened.tensors["pair_cluster_id"] = torch.tensor([3, 1, 3, 2, 1])
    found = source_topics(opened)
    assert found[:2].tolist() == [3, 1]
    nearest = (opened.tensors["source_embs"] @ opened.tensors["centroid_embs"].T).argmax(dim=1)
    assert found[2:].tolist() == nearest[2:].tolist()


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.zeros(3, dtype=np.int64), "has shape"), (np.full(160, 6), "row 0 is 6"), (np.zeros(160), "int64 is expected")],
)
def test_a_damaged_file_is_refused(dataset: Path, tmp_path: Path, array: np.ndarray, message: str) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "copy"))
    save_file({"source_cluster_id": array}, root / "source_cluster_id.safetensors")
    with pytest.raises(InputError, match=message):
        source_topics(open_dataset(root, torch.device("cpu"), verify=False))
