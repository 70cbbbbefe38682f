from __future__ import annotations

from typing import Any

import pytest
import torch

from jasper_rag.data.batch import BATCH_KEYS
from jasper_rag.data.gathering import NEGATIVE_ROWS
from jasper_rag.data.steering_dataset import JASPERSteeringDataset


@pytest.mark.parametrize("kind", ["ours", "original"])
def test_every_key_alone_is_that_of_the_whole_batch(make: Any, kind: str) -> None:
    dataset = JASPERSteeringDataset(make(kind).root, "train")
    places = [5, 0, 31, 5]
    whole = dataset.__getitems__(places).tensors
    for epoch in (0, 9):
        dataset.set_epoch(epoch)
        whole = {key: tensor.clone() for key, tensor in dataset.__getitems__(places).tensors.items()}
        for key in BATCH_KEYS:
            found = dataset.gather(places, {key})
            assert set(found) == {key}
            assert torch.equal(found[key], whole[key]), key
            assert found[key].dtype == whole[key].dtype
        together = dataset.gather(torch.tensor(places), BATCH_KEYS)
        assert all(torch.equal(together[key], whole[key]) for key in BATCH_KEYS)
        assert list(together) == list(BATCH_KEYS)


def test_rows_of_negatives(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    found = dataset.gather([1, 2], {NEGATIVE_ROWS, "negative_embs"})
    assert torch.equal(found[NEGATIVE_ROWS], dataset.hard_negatives[dataset.split_indices[[1, 2]]])
    assert torch.equal(found["negative_embs"], dataset.source_embs[found[NEGATIVE_ROWS]])


def test_forced_steering_is_gathered_too(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    for number, variant in enumerate(("zero", "centroid", "keyword", "residual")):
        dataset.force_steering(variant)
        found = dataset.gather([3], {"steering", "steering_variant"})
        assert found["steering_variant"].tolist() == [number]
        wanted = ours.steering(int(dataset.split_indices[3]), number)
        torch.testing.assert_close(found["steering"][0], wanted, atol=1e-6, rtol=1e-5)


def test_what_is_not_there(ours: Any) -> None:
    dataset = JASPERSteeringDataset(ours.root, "train")
    assert dataset.gather([0], set()) == {}
    assert dataset.gather([], {"question_emb"})["question_emb"].shape == (0, 6)
    with pytest.raises(KeyError, match="colour"):
        dataset.gather([0], {"colour"})
    for place in (-1, 32):
        with pytest.raises(IndexError, match=f"sample {place}"):
            dataset.gather([0, place], {"relevance"})
