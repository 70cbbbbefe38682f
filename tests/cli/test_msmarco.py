"""scripts/download_msmarco.py, offline, on a file of the same schema."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from unittest import mock

import pytest

from jasper_rag.cli.main import run_verb
from jasper_rag.cli.msmarco import msmarco
from jasper_rag.errors import InputError


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "query": f"what is {number}",
            "passages": {"is_selected": [0, 1], "passage_text": [f"other{number}", f"answer{number}"]},
        }
        for number in range(30)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    argv = ["download_msmarco.py", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_verb(msmarco, "download_msmarco.py")
        except SystemExit as leaving:
            code = leaving.code
    return int(str(code or 0)), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    "flags",
    [
        ("--output", "--num_examples", "--max_dev_samples", "--split_ratio"),
        ("--output-dir", "--max-train-samples", "--max-dev-samples", "--split-ratio"),
        ("--output_dir", "--max_train_samples", "--max_dev_samples", "--split_ratio"),
    ],
)
def test_both_spellings(source: Path, flags: tuple[str, ...]) -> None:
    output, most, most_dev, ratio = flags
    code, out, err = run(output, "out", most, 20, most_dev, 5, ratio, 1.0, "--source", source)
    assert code == 0, err
    assert "out/train.json: 18 pairs" in out
    assert "out/test_eval.json: 1 questions on 2 passages" in out
    assert "--train_data out/train.json --val_data out/dev.json" in err
    assert sorted(path.name for path in Path("out").iterdir()) == ["dev.json", "test_eval.json", "train.json"]
    first = json.loads(Path("out/train.json").read_text())[0]
    assert first == {"query": "what is 0", "positive": "answer0", "negative": "other0"}


@pytest.mark.slow
def test_bad_input(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--source", source, "--split_ratio", 3)[0] == 2
    assert run("--source", "none.jsonl")[0] == 2
    assert run("--source", source, "--output", source)[0] == 2
    monkeypatch.setitem(sys.modules, "datasets", None)
    code, _, err = run("--num_examples", 3)
    assert code == 2
    assert 'pip install "jasper-rag[huggingface]"' in err


def test_little_is_enough(source: Path) -> None:
    code, out, err = run("--source", source, "--num-examples", 2, "--quiet")
    assert (code, err) == (0, "")
    assert "dev.json" not in out
    assert sorted(path.name for path in Path("data/processed/msmarco").iterdir()) == ["train.json"]


def test_attempts_to_reach_the_hub_are_not_reported_one_by_one(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = logging.getLogger("huggingface_hub.utils._http")

    def unreachable(*_: object, **__: object) -> None:
        client.warning("Retrying in 1s [Retry 1/5].")
        raise InputError("the hub cannot be reached.", remedy="Check the connection.")

    monkeypatch.setattr("jasper_rag.text.msmarco_download.collect_msmarco", unreachable)
    code, _, err = run("--output", "out")
    assert code == 2
    assert "the hub cannot be reached" in err
    assert "Retry" not in caplog.text + err
    client.warning("and aloud again")
    assert "and aloud again" in caplog.text
