"""`jasper prepare` and scripts/prepare_data.py, as the documented commands give them."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Path:
    """A working directory with the files that the commands name."""
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "data" / "raw"
    (raw / "your_docs" / "below").mkdir(parents=True)
    shutil.copy(repository / "data/raw/all_docs.txt", raw)
    lines = (raw / "all_docs.txt").read_text(encoding="utf-8").splitlines()
    for name in ("data/docs.txt", "data/raw/documents.txt", "data/raw/docs.txt"):
        Path(name).write_text("\n".join(lines[:30]) + "\n", encoding="utf-8")
    for number, line in enumerate(lines[:24]):
        (raw / "your_docs" / ("below" if number % 2 else ".") / f"{number}.txt").write_text(f"Text {number}\n\n{line}")
    pairs = [{"query": f"what of item{n}", "positive": line} for n, line in enumerate(lines)]
    Path("data/pairs.json").write_text(json.dumps(pairs))
    rows = "".join(f'{pair["query"]},"{pair["positive"]}",\n' for pair in pairs)
    Path("data/pairs.csv").write_text(f"query,positive,negative\n{rows}", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "--documents data/docs.txt --generate_pairs --split 0.8 0.1 0.1 --output_dir data/processed",
        "--documents data/raw/documents.txt --generate_pairs --num_pairs 10000 --add_negatives --split 0.8 0.1 0.1 "
        "--output_dir data/processed",
        "--csv_file data/pairs.csv --split 0.8 0.1 0.1 --output_dir data/processed",
        "--documents data/raw/docs.txt --generate_pairs --num_pairs 10000 --split 0.8 0.1 0.1 "
        "--output_dir data/processed",
        "--documents data/raw/all_docs.txt --generate_pairs --num_pairs 100 --split 0.7 0.15 0.15 "
        "--output data/processed/train.json --output_dir data/processed --seed 42",
        "--input_dir data/raw/your_docs/ --generate_pairs --num_pairs 10000 --split 0.8 0.1 0.1 "
        "--output_dir data/processed",
        "--input data/pairs.json --no_shuffle --split 0.8 0.1 0.1 --output_dir data/processed --styles cloze,keyword",
        "--documents data/docs.txt --generate-pairs --no-add-negatives --split 0.8 0.1 0.1 --output-dir data/processed "
        "--distractors data/raw/all_docs.txt --language none --negatives random",
    ],
)
def test_documented_commands(jasper: Command, command: str, repository: Path) -> None:
    done = jasper("prepare", *shlex.split(command))
    assert done.code == 0, done.err
    folder = Path("data/processed")
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["preparation_report.json", "test_eval.json", "train.json", "val.json"]
    assert "jasper train-encoder --train_data data/processed/train.json --val_data data/processed/val.json" in done.err
    report = json.loads((folder / "preparation_report.json").read_text())
    assert f"train: {report['pairs']['train']:,} queries" in done.out
    assert ("pairs asked for: these documents give no more" in done.out) == ("--num_pairs 10000" in command)
    train = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    assert all(("negative" in pair) == ("--no-add-negatives" not in command) for pair in train)
    if "--seed 42" in command:  # that of the prepared files in the repository
        for name in found:
            assert (folder / name).read_bytes() == (repository / "data/processed" / name).read_bytes(), name


@pytest.mark.slow
def test_one_file_without_a_split(jasper: Command) -> None:
    done = jasper("prepare", "--documents", "data/docs.txt", "--generate-pairs", "--output", "pairs/all.json", "--json")
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert shown["files"] == ["pairs/all.json", "pairs/preparation_report.json"]
    assert len(json.loads(Path("pairs/all.json").read_text())) == shown["pairs"]["train"]


@pytest.mark.slow
def test_files_of_an_earlier_run_are_named(jasper: Command) -> None:
    given = ("prepare", "--input", "data/pairs.json", "--output-dir", "out")
    assert jasper(*given, "--split", 0.8, 0.1, 0.1).code == 0
    again = jasper(*given)
    assert "out/val.json is of an earlier run and stays as it is" in again.err
    assert jasper(*given, "--quiet").err == ""


class Letters:
    """Stands in for a sentence encoder: counts of some letters, as unit rows."""

    def __init__(self, name: str, *, offline: bool) -> None:
        assert (name, offline) == ("some/model", True)

    def encode(self, texts: Sequence[str], role: str) -> Any:
        counts = np.array([[text.count(letter) for letter in "etaoin"] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.mark.slow
def test_an_encoder_mines(jasper: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.ModuleType("sentence_encoder")
    stand_in.SentenceEncoder = Letters  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jasper_rag.embedding.sentence_encoder", stand_in)
    done = jasper(
        *("prepare", "--input", "data/pairs.json", "--output-dir", "out", "--negatives", "encoder"),
        *("--base_model", "some/model", "--offline"),
    )
    assert done.code == 0, done.err
    assert len(json.loads(Path("out/train.json").read_text())) == 60


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--output-dir out", "no input was given"),
        ("--documents data/docs.txt --input data/pairs.json --output-dir out", "--documents and --input were given"),
        ("--documents data/docs.txt --generate-pairs", "no place to write to"),
        ("--documents data/docs.txt --output-dir out", "Add --generate-pairs"),
        ("--documents none.txt --generate-pairs --output-dir out", "none.txt: this file does not exist"),
        ("--input_dir none --generate-pairs --output-dir out", "none: there is no such folder"),
        ("--csv_file data/docs.txt --output-dir out", "data/docs.txt"),
        ("--input data/pairs.csv --output-dir out", "data/pairs.csv:1: not JSON"),
        ("--input data/pairs.json --split 0.8 0.1 0.2 --output-dir out", "the shares are 0.8 0.1 0.2"),
        ("--input data/pairs.json --split 0.8 0.1", "--split"),
        ("--input data/pairs.json --negatives hard --output-dir out", "unknown kind 'hard'"),
        ("--input data/pairs.json --output data --output-dir out", "--output is a folder"),
        ("--input data/pairs.json --output-dir data/docs.txt", "is a file, not a folder"),
        ("--input data/pairs.json --generator http://127.0.0.1:1 --output-dir out", "pairs have their queries"),
        ("--documents data/docs.txt --generator ftp://x --output-dir out", "no http or https address"),
    ],
)
def test_bad_input(jasper: Command, command: str, said: str) -> None:
    done = jasper("prepare", *shlex.split(command))
    assert done.code == 2
    assert said in done.err
    assert not Path("out").exists()
