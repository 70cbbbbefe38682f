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


def test_columns_are_for_tables_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body\nx\n")
    assert read_retrieval_set(tmp_path / "a.csv", columns={"document": "body"}).documents[0].text == "x"
    with pytest.raises(InputError, match="columns can be mapped"):
        read_retrieval_set(tmp_path, columns={"document": "body"})


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
