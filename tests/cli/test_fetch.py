from __future__ import annotations

import importlib.util
import io
import json
import shlex
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jasper_rag.cli.fetch import SETS
from jasper_rag.text.fetch import BEIR_MD5

Command = Callable[..., Any]


def shared(name: str) -> Any:
    """A fixture of the tests of `text/`."""
    path = Path(__file__).parents[1] / "text/conftest.py"
    spec = importlib.util.spec_from_file_location("file_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return getattr(module, name)


server = shared("server")


def archive(folder: str = "") -> dict[str, str]:
    """Three documents, two training questions and one for tests."""
    documents = "".join(json.dumps({"_id": f"d{n}", "text": f"text {n}"}) + "\n" for n in range(3))
    questions = "".join(json.dumps({"_id": f"q{n}", "text": f"what is {n}?"}) + "\n" for n in range(3))
    header = "query-id\tcorpus-id\tscore\n"
    files = {
        "corpus.jsonl": documents,
        "queries.jsonl": questions,
        "qrels/test.tsv": f"{header}q2\td2\t1\n",
        "qrels/train.tsv": f"{header}q0\td0\t1\nq0\td1\t1\nq1\td1\t1\n",
    }
    return {f"{folder}{name}": content for name, content in files.items()}


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no waiting between tries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jasper_rag.text.download.time.sleep", lambda _: None)
    return tmp_path


COUNTS = "3 documents, 2 train questions, 1 test questions"


def test_a_set_by_name(jasper: Command, server: Any, here: Path) -> None:
    server.files["/mine.zip"] = zipped(archive("mine/"))
    outcome = jasper("fetch", "mine", "--base-url", server.url)
    assert (outcome.code, outcome.out) == (0, f"data/mine: {COUNTS}\n"), outcome.err
    assert f"fetching {server.url}/mine.zip into data/mine\n" in outcome.err
    assert "unpacking data/mine.zip" in outcome.err
    assert outcome.err.endswith("\nnext:\n  jasper fit --data data/mine --output-dir runs/mine\n")
    assert sorted(path.name for path in (here / "data").iterdir()) == ["mine"]
    again = jasper("fetch", "mine", "--base_url", server.url)
    assert (again.code, again.out) == (0, outcome.out)
    assert "data/mine is there already: nothing to download" in again.err
    assert len(server.requests) == 1


@pytest.mark.slow
def test_another_folder_quietly(jasper: Command, server: Any, here: Path) -> None:
    server.files["/mine.zip"] = zipped(archive())
    outcome = jasper("fetch", "mine", "--output-dir", "my sets/first", "--base-url", server.url, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"my sets/first: {COUNTS}\n", "")
    loud = jasper("fetch", "mine", "--output-dir", "my sets/first/", "--base-url", server.url)
    command = shlex.split(loud.err.splitlines()[-1])
    assert command == ["jasper", "fit", "--data", "my sets/first", "--output-dir", "runs/first"]
    (here / "empty").mkdir()
    assert jasper("fetch", "mine", "--output-dir", "empty/../empty", "--base-url", server.url, "-q").code == 0


@pytest.mark.slow
def test_a_set_of_sets(jasper: Command, server: Any) -> None:
    server.files["/forums.zip"] = zipped({**archive("forums/tex/"), **archive("forums/android/")})
    outcome = jasper("fetch", "forums", "--base-url", server.url, "--output-dir", "sets/all")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"sets/all/android: {COUNTS}\nsets/all/tex: {COUNTS}\n"
    assert outcome.err.endswith(
        "next, for one of them:\n  jasper fit --data sets/all/android --output-dir runs/all-android\n"
    )


@pytest.mark.slow
def test_the_working_directory_is_taken(jasper: Command, server: Any, here: Path) -> None:
    (here / "notes.txt").touch()
    outcome = jasper("fetch", "mine", "--output-dir", ".", "--base-url", server.url)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{here}: something else than a BEIR set is here" in outcome.err


@pytest.mark.slow
def test_a_download_that_broke_off_goes_on(jasper: Command, server: Any, here: Path) -> None:
    content = server.files["/mine.zip"] = zipped(archive())
    server.cuts = [200]
    server.statuses = [200, *[503] * 5]
    outcome = jasper("fetch", "mine", "--base-url", server.url)
    assert (outcome.code, outcome.out) == (2, "")
    assert "no progress in 5 tries, at 200 bytes" in outcome.err
    assert "run the same again: it goes on from there" in outcome.err
    assert (here / "data/mine.zip.part").read_bytes() == content[:200]
    assert jasper("fetch", "mine", "--base-url", server.url).code == 0
    assert server.requests[-1]["Range"] == "bytes=200-"


def test_without_a_network(jasper: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    outcome = jasper("fetch", "scifact")
    assert (outcome.code, outcome.out) == (2, "")
    assert "this machine seems to be offline" in outcome.err
    assert "copy it to data/scifact.zip and run the same again" in outcome.err
    assert list((here / "data").iterdir()) == []


@pytest.mark.slow
def test_an_address_that_nobody_answers(jasper: Command) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        outcome = jasper("fetch", "mine", "--base-url", f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Connection refused" in outcome.err


@pytest.mark.slow
def test_a_name_that_is_not_there(jasper: Command, server: Any, here: Path) -> None:
    outcome = jasper("fetch", "mine", "--base-url", server.url)
    assert (outcome.code, outcome.out) == (2, "")
    assert "the server answered 404" in outcome.err
    for given, message in (
        ("SciFakt", "Did you mean scifact?"),
        ("../x", "no BEIR set '../x'"),
        ("", "no BEIR set ''"),
    ):
        outcome = jasper("fetch", given)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err
        assert "fetching" not in outcome.err
    outcome = jasper("fetch")
    assert (outcome.code, outcome.out) == (2, "")
    assert "jasper fetch --list" in outcome.err
    assert [path.name for path in here.iterdir()] == ["data"]


@pytest.mark.slow
def test_the_list(jasper: Command, here: Path) -> None:
    outcome = jasper("fetch", "--list")
    assert (outcome.code, outcome.err) == (0, "")
    header, *lines = outcome.out.splitlines()
    assert header.split() == ["set", "documents", "questions", "splits", "what", "it", "is"]
    assert [line.split()[0] for line in lines] == list(BEIR_MD5) == list(SETS)
    assert max(map(len, outcome.out.splitlines())) <= 110
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_the_help(jasper: Command) -> None:
    outcome = jasper("fetch", "--help")
    assert outcome.out.startswith("Usage: jasper fetch [OPTIONS] [NAME]")
    for part in ("--output-dir", "data/NAME", "--base-url", "--list", "--quiet", "Example:  jasper fetch scifact"):
        assert part in outcome.out
