from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def files_of(directory: Path) -> dict[str, bytes]:
    """Every file below `directory`, hidden ones too, with its bytes."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def replace_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def only_test(data: Path) -> None:
    (data / "qrels" / "all.tsv").rename(data / "qrels" / "test.tsv")


def two_questions(data: Path) -> None:
    path = data / "qrels" / "all.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


BAD_DATA: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("no folder", shutil.rmtree, ["damaged: nothing exists at this path", "Expected a BEIR directory"]),
    ("no corpus", lambda d: (d / "corpus.jsonl").unlink(), ["corpus.jsonl: this file does not exist"]),
    ("no queries", lambda d: (d / "queries.jsonl").unlink(), ["queries.jsonl: this file does not exist"]),
    ("json", lambda d: replace_line(d / "corpus.jsonl", 3, '{"_id": "d2", '), ["corpus.jsonl:3: ", "JSON"]),
    ("no id", lambda d: replace_line(d / "queries.jsonl", 2, '{"text": "x"}'), ["queries.jsonl:2 [_id]: "]),
    ("twice", lambda d: replace_line(d / "corpus.jsonl", 3, '{"_id": "d0", "text": "x"}'), ["corpus.jsonl:3 [_id]: "]),
    ("no text", lambda d: replace_line(d / "corpus.jsonl", 3, '{"_id": "d2"}'), ["corpus.jsonl:3 [text]: "]),
    ("stranger", lambda d: replace_line(d / "qrels/all.tsv", 4, "q2\td999\t1"), ["all.tsv:4 [corpus-id]: ", "'d999'"]),
    ("grade", lambda d: replace_line(d / "qrels/all.tsv", 4, "q2\td2\tgood"), ["all.tsv:4 [score]: ", "'good'"]),
    ("columns", lambda d: replace_line(d / "qrels/all.tsv", 4, "q2 d2 1"), ["all.tsv:4: 1 tab-separated columns"]),
    ("header", lambda d: replace_line(d / "qrels/all.tsv", 1, "q0\td0\t1"), ["all.tsv:1: the header is missing"]),
    (
        "no qrels",
        lambda d: shutil.rmtree(d / "qrels"),
        ["damaged has 0 labelled pairs, and its 160 documents gave 0 sentences"],
    ),
    ("test only", only_test, ["damaged has 0 labelled pairs", "at least 20 labelled pairs"]),
    ("two", two_questions, ["damaged has 2 labelled pairs", "at least 20 labelled pairs"]),
]


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
@pytest.mark.parametrize(("damage", "message"), [pytest.param(*rest, id=name) for name, *rest in BAD_DATA])
def test_bad_data_is_named_before_any_work(
    jasper: Command, run: Path, damaged: Path, damage: Callable[[Path], object], message: list[str]
) -> None:
    before = files_of(run)
    damage(damaged)
    outcome = jasper("fit", "--data", damaged, "--output-dir", run)
    assert (outcome.code, outcome.out) == (2, "")
    assert all(part in outcome.err for part in message), outcome.err
    assert outcome.err.splitlines()[-2].startswith("jasper: ")
    assert outcome.err.splitlines()[-1].startswith("  ")  # the remedy
    assert "Traceback" not in outcome.err
    assert files_of(run) == before


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", ["bad.yaml [sed]: unknown key", "Did you mean 'seed'?"]),
        ("training:\n  step: 5", ["bad.yaml [training.step]: unknown key", "Did you mean 'steps'?"]),
        ("seed: -1", ["bad.yaml [seed]: ", "got -1"]),
        ("training: {temperature: hot}", ["bad.yaml [training.temperature]: ", "'hot'"]),
        ("training: {learning_rate_end: 1e-9}", ["bad.yaml [training]: ", "learning_rate_end 1e-09 must not be below"]),
        ("a: [1\nb: 2", ["bad.yaml:2: not valid YAML"]),
        ("just words", ["bad.yaml: holds a str"]),
        ("language: klingon", ["[language]: unknown language 'klingon'", "Known: danish"]),
    ],
)
def test_bad_settings_are_named_before_any_work(
    jasper: Command, data: Path, tmp_path: Path, text: str, message: list[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    outcome = jasper("fit", "--data", data, "--output-dir", tmp_path / "run", "--config", tmp_path / "bad.yaml")
    assert (outcome.code, outcome.out) == (2, "")
    assert all(part in outcome.err for part in message), outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
def test_a_flag_for_a_section_that_is_none(jasper: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("encoder: some/model", encoding="utf-8")
    arguments = ("--config", tmp_path / "bad.yaml", "--encoder", "other/model")
    outcome = jasper("fit", "--data", data, "--output-dir", tmp_path / "run", *arguments)
    assert outcome.code == 2
    assert "bad.yaml [encoder]: must hold keys and values" in outcome.err
    assert "indented below `encoder:`" in outcome.err


@pytest.mark.slow
@pytest.mark.usefixtures("no_encoder")
def test_a_place_that_cannot_hold_a_run_is_refused_before_any_work(jasper: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/below"):
        outcome = jasper("fit", "--data", data, "--output-dir", tmp_path / place)
        assert (outcome.code, outcome.out) == (2, "")
        assert f"{tmp_path / 'file'}: is a file, not a folder" in outcome.err
    (tmp_path / "project" / "model").mkdir(parents=True)
    (tmp_path / "project" / "model" / "bridge.stl").write_text("x")
    outcome = jasper("fit", "--data", data, "--output-dir", tmp_path / "project")
    assert outcome.code == 2
    assert "something else than a model" in outcome.err
    assert (tmp_path / "project" / "model" / "bridge.stl").exists()


@pytest.mark.slow
def test_models_that_cannot_be_had_or_limited(jasper: Command, data: Path, word_model: Path, tmp_path: Path) -> None:
    arguments = ("fit", "--data", data, "--output-dir", tmp_path / "run")
    missing = jasper(*arguments, "--encoder", tmp_path / "nowhere")
    assert missing.code == 2
    assert "nowhere' is missing; expected a model folder" in missing.err
    absent = jasper(*arguments, "--encoder", "nobody/nothing", "--offline")
    assert absent.code == 2
    assert "no model 'nobody/nothing'" in absent.err
    assert "--encoder PATH" in absent.err
    limited = jasper(*arguments, "--encoder", word_model, "--max-seq-length", 10)
    assert limited.code == 2
    assert "[max_seq_length]: this model reads texts of any length" in limited.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--output-dir'"),
        (["--data", "x"], "Missing option '--output-dir'"),
        (["--output-dir", "y"], "[data]: nothing to train on"),
        (["--data", "x", "--output-dir", "y", "--seed", "-1"], "Invalid value for '--seed'"),
        (["--data", "x", "--output-dir", "y", "--max_seq_length", "2"], "Invalid value for '--max-seq-length'"),
        (["--data", "x", "--output-dir", "y", "--encodr", "z"], "No such option: --encodr"),
        (["--data", "x", "--output-dir", "y", "--config", "no.yaml"], "no.yaml: there is no such file"),
    ],
)
def test_wrong_flags(jasper: Command, arguments: list[str], message: str) -> None:
    outcome = jasper("fit", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
