from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.readers.folder import read_text_file, read_text_folder
from jasper_rag.text.records import Document


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_one_document_per_line(tmp_path: Path) -> None:
    found = read_text_file(write(tmp_path / "docs.txt", "\n# one \ntwo\n\n"))
    assert found.name == "docs"
    assert found.documents == (Document("2", "# one"), Document("3", "two"))


def test_paragraphs_where_a_blank_line_stands_between_texts(tmp_path: Path) -> None:
    found = read_text_file(write(tmp_path / "docs.txt", "one\n more\n \t\n\ntwo\n"), name="n")
    assert found.name == "n"
    assert found.documents == (Document("1", "one more"), Document("5", "two"))


def test_markdown_headings_title_what_follows_and_fences_stay_whole(tmp_path: Path) -> None:
    content = "intro\n\n# Use #\nfirst\n\n```sh\n# no heading\n\nrun\n```\n\n## Next\n\nlast\n#hash\n"
    assert read_text_file(write(tmp_path / "m.md", content)).documents == (
        Document("1", "intro"),
        Document("4", "first", "Use"),
        Document("6", "```sh\n# no heading\n\nrun\n```", "Use"),
        Document("14", "last\n#hash", "Next"),
    )


@pytest.mark.parametrize(("name", "content"), [("a.txt", " \n"), ("a.md", "# only\n\n## headings\n")])
def test_file_without_documents(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(InputError, match=name):
        read_text_file(write(tmp_path / name, content))


def test_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "b.md", "\n# Title\n\ntext\n")
    write(tmp_path / "a.txt", "# not a heading\n")
    write(tmp_path / "sub/deep/c.md", "before\n```\n# code\n```\n## Later\nafter\n")
    write(tmp_path / "sub/plain.MD", "no heading")
    write(tmp_path / "empty.txt", "\n")
    write(tmp_path / ".hidden/d.md", "x")
    write(tmp_path / ".d.md", "x")
    write(tmp_path / "code.py", "x")
    with caplog.at_level(logging.WARNING):
        found = read_text_folder(tmp_path)
    assert found.name == tmp_path.name
    assert found.documents == (
        Document("a.txt", "# not a heading", "a"),
        Document("b.md", "text", "Title"),
        Document("sub/plain.MD", "no heading", "plain", "sub"),
        Document("sub/deep/c.md", "before\n```\n# code\n```\n## Later\nafter", "Later", "sub"),
    )
    assert "1 files without text" in caplog.text


def test_folder_without_text(tmp_path: Path) -> None:
    write(tmp_path / "empty.txt", "")
    with pytest.raises(InputError, match="no text file with text"):
        read_text_folder(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such a name")
def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.txt", "w") as file:
        file.write("x")
    with pytest.raises(InputError, match="name is not UTF-8"):
        read_text_folder(tmp_path)
