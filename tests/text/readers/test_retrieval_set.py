from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jasper_rag.errors import InputError
from jasper_rag.text.readers import read_retrieval_set


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.jsonl", '{"text": "x"}'),
        ("a.CSV", "text\nx\n"),
        ("a.tsv", "text\tid\nx\t1\n"),
        ("a.txt", "x"),
        ("a.md", "x"),
    ],
)
def test_a_file_is_read_by_its_suffix(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content)
    found = read_retrieval_set(str(tmp_path / file))
    assert [document.text for document in found.documents] == ["x"]
    assert found.name == "a"
    assert read_retrieval_set(tmp_path / file, name="n").name == "n"


def test_directories(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert read_retrieval_set(tmp_path).documents[0].id == "a.txt"
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "x"}')
    with pytest.raises(InputError, match=r"corpus\.jsonl"):
        read_retrieval_set(tmp_path)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "x"}')
    assert read_retrieval_set(tmp_path).documents[0].id == "d"


def test_unknown_layouts_list_what_is_there_and_what_is_expected(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.pdf").touch()
    (tmp_path / "0dir").mkdir()
    with pytest.raises(InputError, match=r"0.pdf, 0dir/, 1.pdf, .* and 3 more") as caught:
        read_retrieval_set(tmp_path)
    assert "BEIR" in caught.value.remedy
    with pytest.raises(InputError, match="holds nothing"):
        read_retrieval_set(tmp_path / "0dir")
    with pytest.raises(InputError, match=r"'\.pdf'"):
        read_retrieval_set(tmp_path / "1.pdf")


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "near.csv").touch()
    with pytest.raises(InputError, match=r"holds near\.csv"):
        read_retrieval_set(tmp_path / "nearly.csv")
    for path in (tmp_path / "no" / "such.csv", "x" * 5000, "a\0b"):
        with pytest.raises(InputError, match="nothing exists"):
            read_retrieval_set(path)


@pytest.mark.parametrize(
    ("file", "content"),
    [("a.csv", "body,b\nx,1\n"), ("a.tsv", "body\tb\nx\t1\n"), ("a.jsonl", '{"body": "x", "b": 1}')],
)
def test_columns_of_a_table(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content)
    for field in ("document", "answer", "Text"):
        found = read_retrieval_set(tmp_path / file, columns={field: "body"})
        assert [document.text for document in found.documents] == ["x"]
    for column, remedy in (("BODY", "Did you mean 'body'?"), ("bdy", "Did you mean 'body'?"), ("zz", "Name one of")):
        with pytest.raises(InputError, match=f"no column '{column}'; the file has 'body', 'b'") as caught:
            read_retrieval_set(tmp_path / file, columns={"document": column})
        assert remedy in caught.value.remedy
    with pytest.raises(InputError, match="no column holds the document; the file has 'body', 'b'") as caught:
        read_retrieval_set(tmp_path / file, columns={"question": "body"})
    assert "columns={'answer': 'b'}" in caught.value.remedy
    assert "--columns answer=b" in caught.value.remedy


def test_columns_where_there_are_none(tmp_path: Path) -> None:
    columns = {"document": "body"}
    (tmp_path / "a.txt").write_text("x")
    for path in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(InputError, match="plain texts have no columns") as caught:
            read_retrieval_set(path, columns=columns)
        assert caught.value.path == path
        assert read_retrieval_set(path, columns={}).documents[0].text == "x"
    for file in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / file).write_text('{"_id": "1", "text": "x"}')
    with pytest.raises(InputError, match="a BEIR directory has no columns") as caught:
        read_retrieval_set(tmp_path, columns=columns)
    assert "_id, title, text" in caught.value.remedy
    (tmp_path / "a.pdf").touch()
    with pytest.raises(InputError, match=r"'\.pdf' cannot be read"):
        read_retrieval_set(tmp_path / "a.pdf", columns=columns)


@pytest.mark.slow
def test_reading_text_imports_no_tensor_library() -> None:
    program = (
        "import sys, jasper_rag.text.readers, jasper_rag.text.splitting, jasper_rag.text.python_source;"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_closed_directory_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(InputError, match="nothing readable"):
        read_retrieval_set(tmp_path)
