from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jasper_rag.cli import demo
from jasper_rag.jasper import Jasper
from jasper_rag.text import python_source

Command = Callable[..., Any]


@pytest.fixture
def source(tmp_path: Path, word_vectors: dict[str, list[float]]) -> Path:
    """A small library: thirty functions whose docstrings name what their code does by other words."""
    folder = tmp_path / "library"
    folder.mkdir()
    words = list(word_vectors)
    functions = [
        f'def {words[n]}_{words[n + 1]}({words[n + 2]}):\n    """Note {words[n + 12]} and {words[n + 13]} or '
        f'{words[n + 14]}."""\n    return {words[n]}, {words[n + 1]}\n'
        for n in range(30)
    ]
    (folder / "things.py").write_text("\n\n".join(functions))
    return folder


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, source: Path, word_model: Path) -> None:
    """The demo, on the small library and with the small model."""
    read = python_source.read_python_source
    monkeypatch.setattr(python_source, "read_python_source", lambda: read(source))
    monkeypatch.setattr("jasper_rag.embedding.model_source.locate", lambda name, *_: word_model)
    monkeypatch.setattr(demo, "MAX_SEQ_LENGTH", None)


@pytest.mark.slow
@pytest.mark.usefixtures("small_demo")
def test_the_demo_fits_compares_and_searches(jasper: Command, tmp_path: Path) -> None:
    run = tmp_path / "demo"
    outcome = jasper("demo", "--output-dir", run)
    assert outcome.code == 0, outcome.err
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["dataset"] == "library"
    lines = outcome.out.splitlines()
    assert metrics["verdict"] in lines
    for title in ("the largest gain: ", "by lot: ", "the largest loss: "):
        (place,) = (number for number, line in enumerate(lines) if line.startswith(title))
        assert lines[place].removeprefix(title).startswith("Note ")
        assert lines[place + 1].split()[:4] == ["question", "alone", "with", "JASPER"]
        ranks = [line.replace("*", " ").split() for line in lines[place + 2 : place + 5]]
        assert [row[0] for row in ranks] == [row[2] for row in ranks] == ["1.", "2.", "3."]
        assert all(name.startswith("things.") for row in ranks for name in (row[1], row[3]))
    assert any("*" in line for line in lines[-15:])
    assert "library: 30 documents" in outcome.err
    assert (run / "report.html").is_file()
    found = jasper("search", "--run", run, "film or movie", "--json")
    assert json.loads(found.out)["hits"][0]["title"].startswith("things.")


@pytest.mark.slow
@pytest.mark.usefixtures("small_demo")
def test_a_quiet_demo_with_a_seed(jasper: Command, tmp_path: Path) -> None:
    outcome = jasper("demo", "--output_dir", tmp_path / "demo", "--seed", "5", "--quiet", "--offline")
    assert (outcome.code, outcome.err) == (0, "")
    assert yaml.safe_load((tmp_path / "demo" / "config.yaml").read_text())["seed"] == 5


@pytest.mark.slow
def test_the_demo_reads_no_more_tokens_than_it_says(
    jasper: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(python_source, "read_python_source", lambda: "a set")
    monkeypatch.setattr(Jasper, "fit", lambda given, *, config, offline: (given, config, offline))
    monkeypatch.setattr("jasper_rag.cli.fit.run_and_write", lambda fit, place, **_: seen.extend((*fit(), place)))
    monkeypatch.setattr(demo, "_examples", lambda _: ())
    assert jasper("demo", "--output-dir", tmp_path, "--offline").code == 0
    given, settings, offline, directory = seen
    assert (given, settings.encoder.max_seq_length, offline, directory) == ("a set", 128, True, tmp_path)
