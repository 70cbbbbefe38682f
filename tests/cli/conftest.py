"""The command line as a user meets it, without a process for each command: a model, a data folder, a finished run."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from jasper_rag.embedding.encoder import Encoder
from jasper_rag.text.records import RetrievalSet
from jasper_rag.yaml_files import write_yaml


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it wrote where."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def run_command(*arguments: object) -> Outcome:
    """Run `jasper` with these arguments in this process; an exception that `main` lets through comes out."""
    from jasper_rag.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    argv = ["jasper", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
    assert code is None or isinstance(code, int), code
    return Outcome(code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def jasper() -> Command:
    """`jasper("search", "--run", ...)` runs the command."""
    return run_command


def write_beir(retrieval_set: RetrievalSet, directory: Path) -> Path:
    """Write a set as a BEIR directory."""
    (directory / "qrels").mkdir(parents=True)
    documents = [{"_id": d.id, "title": d.title, "text": d.text} for d in retrieval_set.documents]
    queries = [{"_id": q.id, "text": q.text} for q in retrieval_set.queries]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for split, qrels in retrieval_set.qrels.items():
        lines = [f"{query}\t{document}\t{grade}" for query in qrels for document, grade in qrels[query].items()]
        text = "\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n"
        (directory / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, synonym_set: RetrievalSet) -> Path:
    """`synonym_set` as a BEIR directory."""
    return write_beir(synonym_set, tmp_path_factory.mktemp("data") / "synonyms")


@pytest.fixture
def damaged(data: Path, tmp_path: Path) -> Path:
    """A copy of `data` to damage."""
    return Path(shutil.copytree(data, tmp_path / "damaged"))


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory, word_model: Path, quick_settings: dict[str, float]) -> Path:
    """YAML that names the model and trains briefly."""
    path = tmp_path_factory.mktemp("settings") / "quick.yaml"
    sections: dict[str, dict[str, object]] = {"encoder": {"name": str(word_model)}}
    for key, value in quick_settings.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    write_yaml(path, sections)
    return path


@pytest.fixture(scope="session")
def fitting(
    jasper: Command, data: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """A run directory, and what `jasper fit` said while it made it; shared, so leave it as it is."""
    run = tmp_path_factory.mktemp("runs") / "first"
    return run, jasper("fit", "--data", data, "--output-dir", run, "--config", settings)


@pytest.fixture(scope="session")
def run(fitting: tuple[Path, Outcome]) -> Path:
    """A finished run directory."""
    return fitting[0]


@pytest.fixture(scope="session")
def dataset(jasper: Command, data: Path, word_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 128 train, 16 val and 16 test pairs, as `jasper build` makes it; shared, so leave it as it is."""
    root: Path = tmp_path_factory.mktemp("datasets") / "synonyms"
    flags = ["--data", data, "--encoder", word_model, "--n-neg", 8, "--n-clusters", 4, "--offline", "--quiet"]
    assert jasper("build", *flags, "--output-dir", root).code == 0
    return root


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading an encoder is a failure: bad input must be found before."""

    def load(*_: object, **__: object) -> Encoder:
        raise AssertionError("the encoder was loaded")

    for user in ("fitting.fit_sources", "jasper"):
        monkeypatch.setattr(f"jasper_rag.{user}.usable_encoder", load)
