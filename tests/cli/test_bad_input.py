"""What is wrong with an input, file by file: exit code 2, its place, a remedy, and not a byte written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

Command = Callable[..., Any]
Arguments = tuple[object, ...]


@dataclass(frozen=True)
class Bench:
    """Copies to damage: a BEIR folder, a model folder that the settings name, a finished run."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def fit(self, data: object, *more: object) -> Arguments:
        """`jasper fit` over the finished run."""
        return ("fit", "--data", data, "--output-dir", self.run, "--config", self.root / "settings.yaml", *more)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path


@pytest.fixture(scope="module")
def made(
    jasper: Command, data: Path, word_model: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """The originals, and a run that knows its model by a relative name, so that each copy has its own."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    shutil.copytree(data, bench.data)
    shutil.copytree(word_model, bench.model)
    bench.write("settings.yaml", settings.read_text().replace(str(word_model), "./model"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(bench.root)
        outcome = jasper(*bench.fit(bench.data))
    assert outcome.code == 0, outcome.err
    return bench


@pytest.fixture
def bench(made: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Copies, with the working directory there."""
    shutil.copytree(made.root, tmp_path / "bench")
    monkeypatch.chdir(tmp_path / "bench")
    return Bench(tmp_path / "bench")


Damage = Callable[[Bench], Arguments]
"""Spoils something, and returns the command that meets it."""


def files_of(directory: Path) -> dict[str, bytes | None]:
    """Everything below `directory`, hidden entries too, with its bytes; None for a folder."""
    paths = directory.rglob("*")
    return {str(path.relative_to(directory)): None if path.is_dir() else path.read_bytes() for path in paths}


def splits(**changed: str) -> Damage:
    """Splits of its own instead of one to be divided, some with other rows."""

    def damage(bench: Bench) -> Arguments:
        rows = (bench.data / "qrels/all.tsv").read_text().splitlines(keepends=True)
        (bench.data / "qrels/all.tsv").unlink()
        for split, part in {"train": rows[1:120], "dev": rows[120:140], "test": rows[140:]}.items():
            bench.write(f"data/qrels/{split}.tsv", rows[0] + changed.get(split, "".join(part)))
        return bench.fit(bench.data)

    return damage


def same_documents(bench: Bench) -> Arguments:
    rows = [f'{{"_id": "d{number}", "text": "The car."}}\n' for number in range(160)]
    bench.write("data/corpus.jsonl", "".join(rows))
    return splits()(bench)


def line(name: str, content: str | bytes) -> Damage:
    """The third line of a file of the data replaced."""

    def damage(bench: Bench) -> Arguments:
        lines = (bench.data / name).read_bytes().splitlines(keepends=True)
        lines[2] = (content if isinstance(content, bytes) else content.encode("utf-8")) + b"\n"
        bench.write(f"data/{name}", b"".join(lines))
        return bench.fit(bench.data)

    return damage


def file(name: str, content: str | bytes) -> Damage:
    """A file of the data or the model replaced, or `jasper fit` on this file."""

    def damage(bench: Bench) -> Arguments:
        path = bench.write(name, content)
        return bench.fit(bench.data if "/" in name else path)

    return damage


def settings(content: str | bytes) -> Damage:
    def damage(bench: Bench) -> Arguments:
        bench.write("settings.yaml", content)
        return bench.fit(bench.data)

    return damage


def not_utf8_name(bench: Bench) -> Arguments:
    path = os.fsdecode(os.fsencode(bench.root) + b"/caf\xe9")
    bench.data.rename(path)
    return bench.fit(path)


def change_weights(bench: Bench, change: Callable[[Any], Any]) -> None:
    path = bench.model / "model.safetensors"
    save_file({name: change(array) for name, array in load_file(path).items()}, path)


def nan_weights(bench: Bench) -> Arguments:
    change_weights(bench, lambda array: array * np.nan)
    return bench.fit(bench.data)


def other_weights(*arguments: object) -> Damage:
    def damage(bench: Bench) -> Arguments:
        change_weights(bench, lambda array: np.ascontiguousarray(array[:, ::-1]))
        return arguments

    return damage


def without_model(*arguments: object) -> Damage:
    def damage(bench: Bench) -> Arguments:
        shutil.rmtree(bench.model)
        return arguments

    return damage


def command(*arguments: object) -> Damage:
    return lambda bench: arguments


# Name, what is done (it returns the command), what stderr must say.
CASES: list[tuple[str, Damage, list[str]]] = [
    ("empty corpus", file("data/corpus.jsonl", ""), ["corpus.jsonl: this file is empty", "one JSON object per line"]),
    ("blank queries", file("data/queries.jsonl", "\n \r\n"), ["queries.jsonl: this file is empty"]),
    ("empty qrels", file("data/qrels/all.tsv", ""), ["all.tsv: this file is empty", "Write the header"]),
    ("not UTF-8", line("corpus.jsonl", b'{"_id": "caf\xe9"}'), ["corpus.jsonl:3: not UTF-8: byte 0xe9 at", "iconv"]),
    ("UTF-16", file("data/queries.jsonl", b"\xff\xfe{\x00"), ["queries.jsonl:1: ", "looks like UTF-16"]),
    ("folder not UTF-8", not_utf8_name, ["the name is not UTF-8", "Rename it"]),
    ("id a float", line("corpus.jsonl", '{"_id": 1.5}'), ["corpus.jsonl:3 [_id]: ", "1.5 (float)", "in quotes"]),
    ("text NaN", line("corpus.jsonl", '{"_id": "x", "text": NaN}'), ["corpus.jsonl:3 [text]: ", "nan (float)"]),
    ("text a list", line("queries.jsonl", '{"_id": "x", "text": []}'), ["queries.jsonl:3 [text]: ", "one string"]),
    ("empty text", line("corpus.jsonl", '{"_id": "x", "text": " "}'), ["corpus.jsonl:3 [text]: ", "neither title nor"]),
    ("empty question", line("queries.jsonl", '{"_id": "x", "text": ""}'), ["queries.jsonl:3 [text]: ", "Fill it"]),
    ("a key twice", line("corpus.jsonl", '{"_id": "x", "_id": "y"}'), ["corpus.jsonl:3: ", "'_id' stands twice"]),
    ("half a character", line("corpus.jsonl", '{"_id": "\\ud83d"}'), ["corpus.jsonl:3 [_id]: ", "U+D83D", "halves"]),
    ("nested", line("corpus.jsonl", "[" * 100_000), ["corpus.jsonl:3: nested too deeply", "Flatten"]),
    ("unknown question", line("qrels/all.tsv", "q999\td2\t1"), ["all.tsv:3 [query-id]: query 'q999' is not in"]),
    ("score NaN", line("qrels/all.tsv", "q2\td2\tNaN"), ["all.tsv:3 [score]: ", "'NaN' is not a whole number"]),
    ("two scores", line("qrels/all.tsv", "q0\td0\t2"), ["all.tsv:3 [score]: score 2 contradicts line 2", "Keep"]),
    ("dev has no answer", splits(dev="q130\td130\t0\n"), ["dev.tsv [score]: ", "no relevant document", "1 or more"]),
    ("test has no row", splits(test=""), ["test.tsv [score]: ", "no relevant document", "remove the file"]),
    ("in two splits", splits(test="q0\td0\t1\n"), ["test.tsv:2 [query-id]: query 'q0' is judged in split 'test' and"]),
    ("all the same", same_documents, ["160 documents of data all have the same text", "two documents that differ"]),
    ("no row", file("a.csv", "question,answer\n"), ["a.csv: this file has a header and no row"]),
    ("columns", file("a.csv", "foo,bar\n1,2\n"), ["a.csv [document]: ", "the file has 'foo', 'bar'", "answer=foo"]),
    ("ragged", file("a.tsv", "question\tanswer\nwho?\tme\nwho?\n"), ["a.tsv:3: 1 fields, but the header has 2"]),
    ("open quote", file("a.csv", 'question,answer\n"who?,me\n'), ["a.csv:2: not a well-formed table", "quotes"]),
    ("empty answer", file("a.csv", "question,answer\nwho?,me\nwhose?,\n"), ["a.csv:3 [answer]: the text is empty"]),
    ("lacks a field", file("a.jsonl", '{"text": "a"}\n{"tex": "b"}\n'), ["a.jsonl:2 [text]: ", "this row has 'tex'"]),
    ("unknown type", file("a.xlsx", b"PK"), ["a.xlsx: files of type '.xlsx' cannot be read", "a .csv or .tsv file"]),
    ("NaN weights", nan_weights, ["encoder './model' returned NaN or infinity for text", "Check that text"]),
    ("unknown words", line("corpus.jsonl", '{"_id": "d2", "text": "z"}'), ["vector of zeros for text", "('z')"]),
    ("weights cut", file("model/model.safetensors", b"\x10"), ["model.safetensors: the model cannot be loaded"]),
    ("tokenizer cut", file("model/tokenizer.json", "{"), ["tokenizer.json: the model cannot be", "folder is complete"]),
    ("no tokenizer", file("model/tokenizer.json", "{}"), ["model: the model cannot be loaded"]),
    ("modules cut", file("model/modules.json", "["), ["modules.json: the model cannot be loaded"]),
    ("no name", lambda b: b.fit(b.data, "--encoder", "a/b--c"), ["'a/b--c' is neither a folder nor a possible name"]),
    ("misspelt", settings("encoder: {nme: x}"), ["settings.yaml [encoder.nme]: unknown key", "Did you mean 'name'?"]),
    ("out of range", settings("guard: {gate_low: 1.5}"), ["settings.yaml [guard.gate_low]: ", "less than 1; got 1.5"]),
    ("NaN", settings("training: {temperature: .nan}"), ["settings.yaml [training.temperature]: ", "got nan"]),
    ("a list for a section", settings("training: [1]"), ["settings.yaml [training]: ", "got [1]"]),
    ("settings not UTF-8", settings(b"seed: 1 # \xe9\n"), ["settings.yaml: not UTF-8", "Save it as UTF-8"]),
    ("settings nested", settings("[" * 900), ["settings.yaml: nested too deeply", "Write key: value"]),
    ("settings with NUL", settings("seed: 1\x00\n"), ["settings.yaml: not valid YAML: special characters"]),
    ("a device", settings("encoder: {name: ./model, device: meta}"), ["[device]: device 'meta' cannot be used", "cpu"]),
    ("half a prompt", settings('encoder: {query_prompt: "\\ud800"}'), ["[query_prompt]: ", "not valid Unicode"]),
    ("other weights", other_weights("search", "--run", "run", "car?"), ["[encoder]: this encoder is not the one"]),
    ("evaluated", other_weights("evaluate", "--run", "run", "--data", "data"), ["differ in weights", "jasper fit"]),
    ("no weights", without_model("search", "--run", "run", "car?"), ["'./model' is missing; expected a model folder"]),
    ("question", command("search", "--run", "run", "caf\udce9"), ["('caf\\udce9') is not valid Unicode"]),
    ("no run", command("evaluate", "--run", "data", "--data", "data"), ["data: there is no trained model here"]),
    ("no export", command("export", "--run", "run", "--to", "data"), ["data: holds something that is not an export"]),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), [pytest.param(*rest, id=name) for name, *rest in CASES])
def test_bad_input(
    jasper: Command,
    bench: Bench,
    damage: Damage,
    message: list[str],
) -> None:
    arguments = damage(bench)
    before = files_of(bench.root)
    outcome = jasper(*arguments)
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    assert all(part in outcome.err for part in message), outcome.err
    assert outcome.err.splitlines()[-2].startswith("jasper: ")
    assert outcome.err.splitlines()[-1].startswith("  ")  # the remedy
    assert "Traceback" not in outcome.err
    assert files_of(bench.root) == before


def test_a_run_directory_that_cannot_be_written(
    jasper: Command, bench: Bench, no_encoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, may = files_of(bench.root), os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: not mode & os.W_OK and may(path, mode, **more))
    outcome = jasper(*bench.fit(bench.data))
    assert (outcome.code, outcome.out) == (2, "")
    assert f"jasper: {bench.run}: this folder cannot be written to.\n  Give a folder elsewhere" in outcome.err
    assert files_of(bench.root) == before
