"""`jasper build --csv-split`: the pairs of each split in files of their own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.data.dataset_texts import read_texts
from jasper_rag.data.steering_dataset import JASPERSteeringDataset
from jasper_rag.text.records import RetrievalSet

Command = Callable[..., Any]


@pytest.fixture
def pairs(synonym_set: RetrievalSet, tmp_path: Path) -> Path:
    """A table with two sources for each of 160 questions: one that answers, and one that does not."""
    documents = {document.id: document for document in synonym_set.documents}
    path = tmp_path / "pairs.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "source_text", "label"])
        for number, query in enumerate(synonym_set.queries):
            (document_id,) = synonym_set.qrels["all"][query.id]
            writer.writerow([query.text, documents[document_id].text, 1])
            writer.writerow([query.text, documents[f"d{(number + 50) % 160}"].text, 0])
    return path


@pytest.mark.slow
def test_csv_files_divide_the_pairs(jasper: Command, pairs: Path, word_model: Path, tmp_path: Path) -> None:
    header, *lines = pairs.read_text(encoding="utf-8").splitlines()
    sizes = {"train": 260, "val": 20, "test": 40}
    flags: list[object] = ["--encoder", word_model, "--n-neg", 4, "--n-clusters", 4, "--offline", "-q"]
    for split, size in sizes.items():
        part, lines = lines[:size], lines[size:]
        (tmp_path / f"{split}.csv").write_text("\n".join([header, *part]), encoding="utf-8")
        flags += ["--csv-split", f"{split}={tmp_path / split}.csv"]
    root = tmp_path / "dataset"
    outcome = jasper("build", *flags, "--output-dir", root)
    assert (outcome.code, outcome.err) == (0, "")
    splits = JASPERSteeringDataset.create_combined_splits(root)
    # Every second row is a pair of relevance 0.
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 130, "val": 10, "test": 20}
    config = json.loads((root / "config.json").read_text())
    assert config["csv_splits"] == {split: [f"{tmp_path / split}.csv"] for split in sizes}
    texts = read_texts(root)
    assert texts is not None
    for name, dataset in splits.items():
        asked = {texts.questions[row].text for row in dataset.pair_index[dataset.split_indices, 0].tolist()}
        content = (tmp_path / f"{name}.csv").read_text(encoding="utf-8")
        assert all(question in content for question in asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "somewhere", "--csv-split", "train=pairs.csv"], "one kind of input is expected"),
        (["--csv", "pairs.csv", "--csv-split", "train=pairs.csv"], "one kind of input is expected"),
        (["--csv-split", "dev=pairs.csv"], "'dev=pairs.csv' names no file of a split"),
        (["--csv-split", "train"], "'train' names no file of a split"),
        (["--csv-split", "val=pairs.csv"], "csv_splits names no file of the train split"),
        (["--csv-split", "train=pairs.csv", "--split", "source"], "csv_splits gives the splits; split source"),
        (["--csv-split", "train=pairs.csv", "--csv-split", "val=pairs.csv"], "pairs.csv:2 [question]: this question"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    jasper: Command, pairs: Path, monkeypatch: pytest.MonkeyPatch, flags: list[object], message: str
) -> None:
    monkeypatch.chdir(pairs.parent)
    outcome = jasper("build", *flags, "--output-dir", "dataset")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (pairs.parent / "dataset").exists()


@pytest.mark.slow
def test_the_splits_may_stand_in_the_settings(jasper: Command, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pairs.parent)
    Path("build.yaml").write_text("csv_splits: {train: [nowhere.csv]}")
    outcome = jasper("build", "--config", "build.yaml", "--output-dir", "dataset")
    assert outcome.code == 2
    assert "nowhere.csv" in outcome.err
