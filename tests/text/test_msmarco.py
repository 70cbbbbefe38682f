"""MS MARCO from small files of its schema: read, resumed, made into pairs."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import normalised
from jasper_rag.text.msmarco import JudgedQuestion, file_rows, hub_rows, judged_question
from jasper_rag.text.msmarco_download import PartialFile, collect_msmarco, forget_partial
from jasper_rag.text.msmarco_pairs import MarcoPairs, held_out, marco_pairs
from jasper_rag.text.readers.rows import Row


def passage(name: str) -> str:
    return f"{name} is told of in this passage of ten words"


def row(number: int, selected: int = 1) -> dict[str, Any]:
    """A row as the hub has it: three passages, the second one selected."""
    texts = [passage(f"unlike{number}"), passage(f"answer{number}"), passage(f"answer{number}").upper()]
    return {
        "answers": ["yes"],
        "passages": {
            "is_selected": [int(place == selected) for place in range(3)],
            "passage_text": texts,
            "url": ["http://x"] * 3,
        },
        "query": f"what is number {number}",
        "query_id": number,
        "query_type": "description",
        "wellFormedAnswers": [],
    }


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    train = [row(number, selected=1 if number % 4 else 9) for number in range(40)]
    write_parquet(folder / "train-00000-of-00001.parquet", train)
    write_jsonl(folder / "validation.jsonl", [row(number) for number in range(100, 120)])
    return folder


def test_a_row(tmp_path: Path) -> None:
    found = judged_question(Row(tmp_path, 1, row(7)))
    assert found == JudgedQuestion("what is number 7", (passage("answer7"),), (passage("unlike7"),))
    assert judged_question(Row(tmp_path, 1, row(7, selected=5))) is None
    listed = {
        "query": "q",
        "passages": [{"is_selected": 1, "passage_text": "a"}, {"is_selected": 0, "passage_text": "b"}],
    }
    assert judged_question(Row(tmp_path, 1, listed)) == JudgedQuestion("q", ("a",), ("b",))


@pytest.mark.parametrize(
    "passages",
    [None, "text", {"is_selected": [1]}, {"is_selected": [1], "passage_text": ["a", "b"]}, [{"is_selected": 1}], [3]],
)
def test_another_schema(tmp_path: Path, passages: Any) -> None:
    with pytest.raises(InputError, match=r"x:5 \[passages\]: "):
        judged_question(Row(tmp_path / "x", 5, {"query": "q", "passages": passages}))


def test_files(tmp_path: Path) -> None:
    rows = [row(number) for number in range(3)]
    for path in (write_parquet(tmp_path / "a.parquet", rows), write_jsonl(tmp_path / "a.jsonl", rows)):
        assert [one.values["query"] for one in file_rows(path, start=1)] == ["what is number 1", "what is number 2"]
    with pytest.raises(InputError, match=r"\[passages\]: the column is missing"):
        file_rows(write_parquet(tmp_path / "b.parquet", [{"query": "q"}]))
    with pytest.raises(InputError, match="neither"):
        file_rows(tmp_path / "a.csv")


def same(one: MarcoPairs, other: MarcoPairs) -> bool:
    return (one.train, one.dev, one.test) == (other.train, other.dev, other.test)


@pytest.mark.slow
def test_pairs_of_a_folder(source: Path, tmp_path: Path) -> None:
    found = collect_msmarco(tmp_path / "out", source=source, most_train=12, most_dev=4)
    assert len(found.train) == 12
    assert found.train[0].query == "what is number 1"  # number 0 has no selected passage
    assert found.train[0].positive == passage("answer1")
    assert found.train[0].negative == passage("unlike1")
    assert len(found.dev) == 4
    assert found.test is not None
    assert len(found.test.queries) == 4
    assert len(found.test.corpus) == 8
    for query, rows in zip(found.test.queries, found.test.relevance, strict=True):
        assert [found.test.corpus[one] for one in rows] == [passage(f"answer{query.split()[-1]}")]
    assert not {pair.query for pair in found.dev} & set(found.test.queries)
    everything = collect_msmarco(tmp_path / "all", source=source)
    assert len(everything.train) == 30
    assert len(everything.dev) == 10
    halved = collect_msmarco(tmp_path / "half", source=source, split_ratio=0.5, most_dev=5)
    assert (len(halved.train), len(halved.dev)) == (15, 15)
    assert halved.test is not None
    assert len(halved.test.queries) == 5


def test_a_single_file_gives_a_tenth(source: Path, tmp_path: Path) -> None:
    found = collect_msmarco(tmp_path / "out", source=source / "train-00000-of-00001.parquet")
    assert found.test is not None
    assert (len(found.train), len(found.dev), len(found.test.queries)) == (27, 1, 2)


@pytest.mark.parametrize("cut", [0, 1, 40, 200, 900, 2000, 10_000])
def test_killed_at_any_byte_it_goes_on_to_the_same_end(source: Path, tmp_path: Path, cut: int) -> None:
    whole = collect_msmarco(tmp_path / "whole", source=source, most_train=20)
    folder = tmp_path / "killed"
    folder.mkdir()
    for name in ("train.partial", "validation.partial"):
        (folder / name).write_bytes((tmp_path / "whole" / name).read_bytes()[:cut])
    assert same(collect_msmarco(folder, source=source, most_train=20), whole)
    for name in ("train.partial", "validation.partial"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    forget_partial(folder)
    assert list(folder.iterdir()) == []


def test_what_has_come_is_not_read_again(source: Path, tmp_path: Path) -> None:
    path = source / "train-00000-of-00001.parquet"
    partial = PartialFile(tmp_path / "train.partial", "here")
    partial.fill(islice(file_rows(path), 10), None)
    again = PartialFile(tmp_path / "train.partial", "here")
    assert (again.rows_read, len(again.questions)) == (10, 7)
    again.fill(file_rows(path, again.rows_read), 9)
    assert (again.rows_read, [one.query for one in again.questions][-2:]) == (
        12,
        ["what is number 10", "what is number 11"],
    )
    other = PartialFile(tmp_path / "train.partial", "elsewhere")
    assert (other.rows_read, other.questions) == (0, [])
    other.fill([], None)
    assert len((tmp_path / "train.partial").read_text().splitlines()) == 1


def test_nothing_stands_in_two_parts() -> None:
    def question(number: int, positive: int) -> JudgedQuestion:
        return JudgedQuestion(f"q{number}", (passage(f"p{positive}"),), ())

    train = [question(number, number) for number in range(10)] + [question(3, 50)]
    held = [question(2, 60), question(70, 4), *(question(number, number) for number in range(80, 90))]
    found = marco_pairs(train, held)
    assert [pair.query for pair in found.train] == [f"q{number}" for number in range(10)]
    assert found.test is not None
    assert len(found.dev) + len(found.test.queries) == 10
    assert not {"q2", "q70"} & {*found.test.queries, *(pair.query for pair in found.dev)}
    assert found.dropped == {
        "questions that stand in an earlier split, or share its passage": 2,
        "questions asked twice": 1,
    }
    assert {normalised(pair.negative) for pair in found.train} == {""}
    kept, aside = held_out(train)
    assert len(aside) == 1
    assert sorted(one.query for one in (*kept, *aside)) == sorted(one.query for one in train)
    with pytest.raises(InputError, match="no question with a selected passage"):
        marco_pairs([], [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"config": "v9"}, "unknown config 'v9'"),
        ({"split_ratio": 0.0}, "the ratio is 0"),
        ({"most_train": 0}, "0 questions"),
        ({"most_dev": -1}, "-1 questions"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        collect_msmarco(tmp_path, source=tmp_path / "x.jsonl", **arguments)
    with pytest.raises(InputError, match="the ratio is 2"):
        marco_pairs([], [], 2)
    with pytest.raises(InputError, match="no train"):
        collect_msmarco(tmp_path, source=tmp_path)


class Streamed:
    """What `datasets.load_dataset(..., streaming=True)` returns."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def skip(self, count: int) -> Streamed:
        return Streamed(self.rows[count:])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for one in self.rows:
            if one["query_id"] == 13:
                raise ConnectionError("the line is dead")
            yield one


def test_the_hub_is_streamed_without_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*arguments: Any, **named: Any) -> Streamed:
        asked.append((arguments, named))
        return Streamed([row(number) for number in range(8 if named["split"] == "train" else 14)])

    library: Any = types.ModuleType("datasets")
    library.load_dataset = load_dataset
    library.exceptions = types.SimpleNamespace(DatasetsError=RuntimeError)
    monkeypatch.setitem(sys.modules, "datasets", library)
    assert [one.line for one in hub_rows("v2.1", "train", start=6)] == [7, 8]
    assert asked == [(("microsoft/ms_marco", "v2.1"), {"split": "train", "streaming": True})]
    with pytest.raises(InputError, match=r"cannot be read \(ConnectionError\): the line is dead"):
        collect_msmarco(tmp_path)
    assert PartialFile(tmp_path / "validation.partial", "hf:microsoft/ms_marco:v1.1 validation").rows_read == 13


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"jasper-rag\[huggingface\]"):
        list(hub_rows("v1.1", "train"))
