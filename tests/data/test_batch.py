from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from jasper_rag.data.batch import PreparedBatch, SteeringSample


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"a": torch.arange(4), "b": torch.rand(4, 2)}


def test_default_collate_takes_the_finished_tensors(tensors: dict[str, Tensor]) -> None:
    samples: Any = PreparedBatch(tensors)
    assert default_collate(samples) is tensors


def test_it_is_a_list_of_samples_to_others(tensors: dict[str, Tensor]) -> None:
    batch = PreparedBatch(tensors)
    assert len(batch) == len(list(batch)) == 4
    assert batch[2]["a"] == 2
    assert torch.equal(batch[-1]["b"], tensors["b"][3])
    assert [int(sample["a"]) for sample in batch[1:3]] == [1, 2]
    with pytest.raises(IndexError, match="sample 4 of a batch of 4"):
        batch[4]


def test_single_samples_are_stacked(tensors: dict[str, Tensor]) -> None:
    stacked = default_collate(list(PreparedBatch(tensors)))
    assert type(stacked) is dict
    assert all(torch.equal(stacked[key], tensors[key]) for key in tensors)


def test_other_mappings_are_collated_as_before() -> None:
    loader = DataLoader([{"x": 1}, {"x": 2}], batch_size=2)  # type: ignore[arg-type, var-annotated]
    assert next(iter(loader))["x"].tolist() == [1, 2]
    assert isinstance(SteeringSample(), dict)
