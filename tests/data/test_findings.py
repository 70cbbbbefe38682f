from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jasper_rag.data import findings
from jasper_rag.data.findings import DatasetWarning, negative_faults
from jasper_rag.data.steering_dataset import JASPERSteeringDataset


def said(root: Any) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        JASPERSteeringDataset(root, "train")
    assert all(warning.category is DatasetWarning for warning in caught)
    return "\n".join(str(warning.message) for warning in caught)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "original"])
def test_a_sound_directory_is_served_in_silence(make: Callable[..., Any], kind: str) -> None:
    assert said(make(kind).root) == ""


@pytest.mark.slow
def test_a_missing_test_split_is_said(original: Any) -> None:
    (original.root / "test_idx.pt").unlink()
    assert said(original.root).endswith("the test split is missing")
    with pytest.warns(DatasetWarning):
        assert set(JASPERSteeringDataset.create_combined_splits(original.root)) == {"train", "val"}
    with pytest.warns(DatasetWarning), pytest.raises(ValueError, match="has no test split"):
        JASPERSteeringDataset(original.root, "test")


def test_shared_questions_and_sources_are_counted(make: Callable[..., Any]) -> None:
    pairs = torch.arange(40)
    index = torch.stack([pairs // 2, pairs], dim=1)
    index[33] = torch.tensor([0, 33])
    index[36:38, 1] = torch.tensor([0, 1])
    text = said(make("original", pair_index=index).root)
    assert "1 questions are shared by the train and val splits" in text
    assert "2 sources are shared by the train and test splits" in text


@pytest.mark.slow
def test_pairs_in_no_split_and_empty_splits_are_counted(make: Callable[..., Any]) -> None:
    assert "2 of 40 pairs are in no split" in said(make("original", test_idx=torch.tensor([36, 37])).root)
    empty = make("original", name="empty", test_idx=torch.zeros(0).long())
    assert "the test split has 0 pairs" in said(empty.root)


@pytest.mark.slow
@given(st.data())
def test_negatives_are_counted_as_a_loop_would(data: st.DataObject) -> None:
    pairs, sources, width = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    rows = st.integers(0, sources - 1)
    index = [(data.draw(st.integers(0, 3)), data.draw(rows)) for _ in range(pairs)]
    negatives = [[data.draw(rows) for _ in range(width)] for _ in range(pairs)]
    duplicate = sum(len(set(row)) < width for row in negatives)
    answers = [[(question, one) in index for one in row] for (question, _), row in zip(index, negatives, strict=True)]
    expected = []
    if duplicate:
        expected.append(f"{duplicate} of {pairs} pairs have duplicate negatives")
    if any(map(any, answers)):
        known, within = sum(map(sum, answers)), sum(map(any, answers))
        expected.append(f"{known} known positives among the negatives, in {within} of {pairs} pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "_BLOCK", data.draw(st.integers(1, 9)))
        found = negative_faults(torch.tensor(negatives), torch.tensor(index), sources)
    assert len(found) == len(expected)
    assert all(one.startswith(other) for one, other in zip(found, expected, strict=True))
