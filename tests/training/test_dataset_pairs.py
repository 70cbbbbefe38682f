from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from jasper_rag.data.dataset_texts import read_texts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.dataset_layout import TEXT_FILES
from jasper_rag.training.dataset_pairs import split_pairs


@pytest.mark.parametrize("split", ["train", "val"])
def test_pairs_of_a_split(steering_root: Path, split: str) -> None:
    dataset = JASPERSteeringDataset(steering_root, split)
    pairs, row_of_source = split_pairs(dataset)
    assert len(pairs) == len(dataset)
    for place in range(len(dataset)):
        sample = dataset[place]
        question, source = pairs.pairs[place].tolist()
        assert torch.equal(pairs.questions[question], sample["question_emb"])
        assert torch.equal(pairs.sources[source], sample["target_source_emb"])
        assert pairs.relevance[place] == sample["relevance"]
        assert source in pairs.known_positives[question].tolist()
    targets = dataset.pair_index[dataset.split_indices, 1]
    assert len(pairs.sources) == len(torch.unique(targets))
    assert torch.equal(row_of_source[targets], pairs.pairs[:, 1])
    outside = sorted(set(range(len(dataset.source_embs))) - set(targets.tolist()))
    assert (row_of_source[outside] >= len(pairs.sources)).all()
    assert len(set(row_of_source.tolist())) == len(row_of_source)


@pytest.fixture
def repeated(steering_root: Path, tmp_path: Path) -> tuple[Path, int, int]:
    """Two train pairs have sources of equal text and vector; their numbers."""
    root = Path(shutil.copytree(steering_root, tmp_path / "dataset"))
    dataset = JASPERSteeringDataset(root, "train", verify=False)
    first, second = dataset.pair_index[dataset.split_indices[:2], 1].tolist()
    lines = (root / "documents.jsonl").read_text().splitlines()
    own = lines[second].split('"title"')[0]
    lines[second] = own + '"title"' + lines[first].split('"title"', 1)[1]
    (root / "documents.jsonl").write_text("\n".join(lines) + "\n")
    texts = read_texts(root).documents
    assert texts[first].content == texts[second].content
    return root, first, second


def test_equal_texts_are_one_source(repeated: tuple[Path, int, int]) -> None:
    root, first, second = repeated
    pairs, row_of_source = split_pairs(JASPERSteeringDataset(root, "train", verify=False))
    assert row_of_source[first] == row_of_source[second] < len(pairs.sources)
    assert len(pairs.sources) == 39


def test_without_texts_equal_vectors_are_one_source(steering_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(steering_root, tmp_path / "dataset"))
    for name in TEXT_FILES:
        (root / name).unlink()
    dataset = JASPERSteeringDataset(root, "train", verify=False)
    assert len(split_pairs(dataset).pairs.sources) == 40
    first, second = dataset.pair_index[dataset.split_indices[:2], 1].tolist()
    question, other = dataset.pair_index[dataset.split_indices[:2], 0].tolist()
    dataset.source_embs[second] = dataset.source_embs[first]
    dataset.question_embs[other] = dataset.question_embs[question]
    dataset.pair_index[dataset.split_indices[2], 0] = other
    pairs, row_of_source = split_pairs(dataset)
    assert len(pairs.sources) == 39
    assert row_of_source[first] == row_of_source[second]
    # The same question, asked twice: what answers the one answers the other.
    third = int(pairs.pairs[2, 1])
    for row in (question, other):
        assert {int(row_of_source[first]), third} <= set(pairs.known_positives[row].tolist())
