from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.records import Document, Query, RetrievalSet
from jasper_rag.text.split_file import all_judgements
from jasper_rag.text.splitting import read_splits, split_by_document, write_splits


@pytest.fixture
def pairs() -> RetrievalSet:
    numbers = range(12)
    return RetrievalSet(
        "set",
        tuple(Document(f"d{n}", f"text {n}") for n in numbers),
        tuple(Query(f"q{n}", f"question {n}") for n in numbers),
        {"all": {f"q{n}": {f"d{n}": 1} for n in numbers}},
    )


def test_what_is_written_is_read(tmp_path: Path, pairs: RetrievalSet) -> None:
    divided = split_by_document(pairs, 5)
    write_splits(divided, tmp_path / "splits.json", seed=5)
    assert read_splits(pairs, tmp_path / "splits.json") == divided
    record = json.loads((tmp_path / "splits.json").read_text())
    assert (record["seed"], record["set"]) == (5, "set")
    assert list(tmp_path.iterdir()) == [tmp_path / "splits.json"]


def test_judgements_of_several_splits_are_merged() -> None:
    queries = (Query("a", "a"), Query("b", "b"))
    qrels = {"x": {"b": {"d": 1}}, "y": {"a": {"d": 1}, "b": {"d": 0}}}
    base = RetrievalSet("s", (Document("d", "x"),), queries, qrels)
    assert list(all_judgements(base).items()) == [("a", {"d": 1}), ("b", {"d": 1})]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"splits": {"train": ["q99"]}}, "'q99' has no judgement"),
        ({"splits": {"train": ["q1"], "test": ["q1"]}}, "also in split 'train'"),
        ({"splits": {"train": ["q1"]}}, "11 judged questions are in no split, the first is 'q0'"),
        ({"splits": {"train": "q1"}}, "list of at least one"),
        ({"splits": {"train": []}}, "list of at least one"),
        ({"splits": {"train": [1]}}, "list of at least one"),
        ({"splits": []}, "object of split name"),
        ({"splits": {}}, "object of split name"),
        ({"version": 2}, "version 1"),
        ({"format": "other"}, "not a split file"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, pairs: RetrievalSet, change: dict[str, Any], problem: str) -> None:
    path = tmp_path / "splits.json"
    write_splits(pairs, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=problem) as caught:
        read_splits(pairs, path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[" * 100_000, '{"format": "jasper-splits", "format": "jasper-splits"}']
)
def test_not_a_split_file(tmp_path: Path, pairs: RetrievalSet, content: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(InputError):
        read_splits(pairs, tmp_path / "splits.json")
    with pytest.raises(InputError, match="does not exist"):
        read_splits(pairs, tmp_path / "none.json")
