from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.leakage import occurs_in
from jasper_rag.text.python_source import read_python_source

SOURCE = '''
import os

def top(a,
        b=1):  # why
    """Say what the top function
    does in détail here.

    More.
    """  # kept

    # a comment, é
    return """
  text"""

class Outer:
    """Classes are not read at all here."""

    class Inner:
        async def method(self):
            """Wait for the thing to end."""; x = 1
            def local():
                """Inner functions are not read either."""
            return x

        @property
        def twice(self):
            """Return a value of some kind."""
            return 1

        @twice.setter
        def twice(self, value):
            """Return a value of some kind."""
            self.value = value

try:
    def guarded(): "Functions below a try are read."; return 2
except ImportError:
    def fallback():
        """Functions below an except are read."""
        return 3

def short():
    """Four words are few."""
    return 4

def stub():
    """A signature alone is no answer."""

def quoting():
    """Say this very sentence out loud."""
    # say this very sentence, out loud!
    return 5

def bare():
    return 6

def half():
    """Half a character \\ud800 is not kept."""
    return 7
'''


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_pairs_of_one_module(tmp_path: Path) -> None:
    found = read_python_source(write(tmp_path / "lib", {"pack/mod.py": SOURCE}))
    assert found.name == "lib"
    texts = {document.id: document.text for document in found.documents}
    assert texts == {
        "pack.mod.top": 'def top(a,\n        b=1):  # why  # kept\n\n    # a comment, é\n    return """\n  text"""',
        "pack.mod.Outer.Inner.method": (
            "async def method(self): x = 1\n    def local():\n"
            '        """Inner functions are not read either."""\n    return x'
        ),
        "pack.mod.Outer.Inner.twice": "def twice(self):\n    return 1",
        "pack.mod.Outer.Inner.twice#2": "def twice(self, value):\n    self.value = value",
        "pack.mod.guarded": "def guarded(): return 2",
        "pack.mod.fallback": "def fallback():\n    return 3",
    }
    assert {document.topic for document in found.documents} == {"pack"}
    assert {document.title for document in found.documents} == {key.split("#")[0] for key in texts}
    queries = {query.id: query.text for query in found.queries}
    assert queries["q:pack.mod.top"] == "Say what the top function does in détail here."
    assert len(queries) == 5
    twice = "pack.mod.Outer.Inner.twice"
    assert found.qrels["all"][f"q:{twice}"] == {twice: 1, f"{twice}#2": 1}


def test_equal_documents_merge(tmp_path: Path) -> None:
    function = 'def f():\n    """{} one two three four."""\n    return 1\n'
    source = function.format("First") + function.format("Second")
    found = read_python_source(write(tmp_path, {"m.py": source}))
    assert [document.id for document in found.documents] == ["m.f"]
    assert [query.text for query in found.queries] == ["First one two three four.", "Second one two three four."]
    assert all(judged == {"m.f": 1} for judged in found.qrels["all"].values())


def test_files_left_out_and_module_names(tmp_path: Path) -> None:
    good = 'def f():\n    """one two three four five"""\n    return 1\n'
    root = write(
        tmp_path / "lib",
        {
            "b.py": good,
            "a/__init__.py": good,
            "__init__.py": good,
            "latin.py": b"# coding: latin-1\n" + good.replace("one", "\xe9ne").encode("latin-1"),
            "a/tests/t.py": good,
            "site-packages/s.py": good,
            ".hidden/h.py": good,
            "tkinter/t.py": good,
            "syntax.py": "def f(:",
            "bytes.py": b"\xff\xfe",
            "null.py": "x = 1\0",
            "notes.txt": good,
        },
    )
    ids = [document.id for document in read_python_source(root).documents]
    assert ids == ["lib.f", "b.f", "latin.f", "a.f", "tkinter.t.f"]


def test_min_words_and_faults(tmp_path: Path) -> None:
    root = write(tmp_path, {"m.py": 'def f():\n    """one two"""\n    return 1\n'})
    assert len(read_python_source(root, min_words=2).documents) == 1
    with pytest.raises(InputError, match="1 Python files, and no function"):
        read_python_source(root)
    with pytest.raises(InputError, match="does not exist"):
        read_python_source(tmp_path / "none")


def test_standard_library_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = 'def f():\n    """one two three four five"""\n    return 1\n'
    write(tmp_path, {"abc.py": good, "tkinter/t.py": good, "xml/tkinter/t.py": good})
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    found = read_python_source()
    assert found.name.startswith("python-3.")
    assert [document.id for document in found.documents] == ["abc.f", "xml.tkinter.t.f"]


def test_one_real_package() -> None:
    import json

    found = read_python_source(Path(json.__file__).parent)
    assert "decoder.JSONDecoder.raw_decode" in {document.id for document in found.documents}
    assert found == read_python_source(Path(json.__file__).parent)
    text = {query.id: query.text for query in found.queries}
    for query, judged in found.qrels["all"].items():
        for document in found.documents:
            assert document.id not in judged or not occurs_in(text[query], document.text)
