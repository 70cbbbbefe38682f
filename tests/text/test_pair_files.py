"""The pair and test files: what is read, written and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.pair_files import (
    EvaluationSet,
    TrainingExample,
    read_evaluation_set,
    read_examples,
    read_examples_csv,
    read_lines,
    read_text_folder,
    write_evaluation_set,
    write_examples,
)

PAIR = {"query": "q", "positive": "p"}


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_pairs_come_back(tmp_path: Path) -> None:
    pairs = (TrainingExample("what?", "this", "that"), TrainingExample("wörd", "straße"))
    write_examples(tmp_path / "train.json", pairs)
    assert read_examples(tmp_path / "train.json") == pairs
    assert json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))[1] == {
        "query": "wörd",
        "positive": "straße",
    }


def test_a_test_set_comes_back(tmp_path: Path) -> None:
    evaluation = EvaluationSet(("a", "b"), ("q", "r"), ((1,), (0, 1)))
    write_evaluation_set(tmp_path / "test_eval.json", evaluation)
    assert read_evaluation_set(tmp_path / "test_eval.json") == evaluation
    assert json.loads((tmp_path / "test_eval.json").read_text()) == {
        "corpus": ["a", "b"],
        "queries": ["q", "r"],
        "relevance": [[1], [0, 1]],
    }


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[{]", r"x\.json:1: not JSON"),
        ("[" * 100_000, "nested too deep"),
        ({"a": 1}, "a list of pairs is expected"),
        ({"corpus": [], "queries": [], "relevance": []}, "this is a test set"),
        ([], "the list is empty"),
        ([PAIR, "text"], r"x\.json:2: entry 2 is 'text'"),
        ([PAIR, {"query": "q"}], r"x\.json:2 \[positive\]: the field is missing"),
        ([{"query": " ", "positive": "p"}], r"\[query\]: the text is empty"),
        ([{"query": "q", "positive": 3}], r"\[positive\]: a string is expected"),
        ([{**PAIR, "negative": ["n"]}], r"\[negative\]: a string is expected"),
    ],
)
def test_what_is_no_list_of_pairs(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_examples(written(tmp_path / "x.json", value))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([PAIR], 'an object with "corpus"'),
        ({"corpus": None}, r"\[corpus\]: a list of texts is expected"),
        ({"corpus": ["a", ""]}, r":2 \[corpus\]: the text is empty"),
        ({"queries": []}, r"\[queries\]"),
        ({"relevance": [[0]]}, r"\[relevance\]: 1 entries, but there are 2"),
        ({"relevance": 5}, r"\[relevance\]"),
        ({"relevance": [[0], [2]]}, r":2 \[relevance\]: the entry of query 1 is \[2\]"),
        ({"relevance": [[0], []]}, "the entry of query 1"),
        ({"relevance": [[True], [0]]}, "the entry of query 0"),
    ],
)
def test_what_is_no_test_set(tmp_path: Path, change: Any, said: str) -> None:
    good = {"corpus": ["a", "b"], "queries": ["q", "r"], "relevance": [[0], [1, 1]]}
    assert read_evaluation_set(written(tmp_path / "x.json", good)).relevance == ((0,), (1,))
    value = {**good, **change} if isinstance(change, dict) else change
    with pytest.raises(InputError, match=said):
        read_evaluation_set(written(tmp_path / "x.json", value))


def test_csv(tmp_path: Path) -> None:
    table = 'query,positive,negative\n"a, b",yes,no\nc,"two\nlines",\n'
    assert read_examples_csv(written(tmp_path / "x.csv", table)) == (
        TrainingExample("a, b", "yes", "no"),
        TrainingExample("c", "two\nlines"),
    )
    with pytest.raises(InputError, match=r"x\.csv:1 \[positive\]: the column is missing"):
        read_examples_csv(written(tmp_path / "x.csv", "query,answer\na,b\n"))
    with pytest.raises(InputError, match=r"x\.csv:3 \[positive\]: the text is empty"):
        read_examples_csv(written(tmp_path / "x.csv", "query,positive\na,b\nc,\n"))


def test_documents(tmp_path: Path) -> None:
    assert read_lines(written(tmp_path / "x.txt", "\ufeffone\n\n two \r\n")) == ["one", "two"]
    (tmp_path / "below").mkdir()
    written(tmp_path / "below" / "a.txt", "three\nlines\n")
    written(tmp_path / "empty.txt", " ")
    assert read_text_folder(tmp_path) == ["three\nlines", "one\n\n two"]
    for read, path in ((read_lines, "empty.txt"), (read_lines, "none.txt"), (read_text_folder, "none")):
        with pytest.raises(InputError, match=path):
            read(tmp_path / path)
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"no \.txt file"):
        read_text_folder(tmp_path / "bare")
