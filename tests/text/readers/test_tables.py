from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.readers.tables import read_table
from jasper_rag.text.records import Document, Query


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_pairs(tmp_path: Path) -> None:
    content = '\ufeffquestion, answer ,split\r\nwho?,"me, ""I""\nmyself",train\r\n\r\nwhose?,mine,test\r\n'
    found = read_table(write(tmp_path / "p.csv", content))
    assert found.documents == (Document("d0", 'me, "I"\nmyself'), Document("d1", "mine"))
    assert found.queries == (Query("q0", "who?"), Query("q1", "whose?"))
    assert found.qrels == {"train": {"q0": {"d0": 1}}, "test": {"q1": {"d1": 1}}}


def test_tsv_documents_with_mapped_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tsv", 'nr\tbody\n1\ta 6" pipe, long\n2\tb\n')
    found = read_table(path, name="n", columns={"id": "nr", "document": "body"})
    assert found.name == "n"
    assert found.documents == (Document("1", 'a 6" pipe, long'), Document("2", "b"))


def test_long_fields_are_read_and_the_limit_is_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    found = read_table(write(tmp_path / "p.csv", "text\n" + "x" * (before + 1) + "\n"))
    assert len(found.documents[0].text) == before + 1
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "problem", "line"),
    [
        ("", "empty", None),
        ("text\n", "no row", None),
        ("text,text\na,b\n", "twice: 'text'", 1),
        ("text;id\na;b\n", "separated by ';'", 1),
        ('text,id\n"a\nb",1\nc\n', "1 fields, but the header has 2", 4),
        ('text,id\na,1\n"b,2\nc,3\n', "well-formed", 3),
        ('text,id\n"a"b,1\n', "well-formed", 2),
        ("text,id\na,1\n,2\n", "empty", 3),
        (b"text,id\na,1\n\xe9,2\n", "UTF-8", 3),
        ("a,b\n1,2\n", "the file has 'a', 'b'", None),
    ],
)
def test_faults_name_the_physical_line(tmp_path: Path, content: str | bytes, problem: str, line: int | None) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_table(write(tmp_path / "p.csv", content))
    assert caught.value.line == line


def test_field_fault_names_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p.csv:4 \[text\]"):
        read_table(write(tmp_path / "p.csv", 'text,id\n"a\nb",1\n" ",2\n'))


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(
    st.floats(0, 1), st.integers(0, 8), st.sampled_from([b'"', b"\r", b"\x00", b",", b"\xff"]) | st.binary(max_size=5)
)
def test_a_mutated_table_never_raises_anything_else(tmp_path: Path, where: float, removed: int, added: bytes) -> None:
    content = b'question,answer,split\nwho?,"me\nagain",train\nwhose?,mine,test\n'
    at = int(where * len(content))
    path = write(tmp_path / "p.csv", content[:at] + added + content[at + removed :])
    with contextlib.suppress(InputError):
        assert read_table(path).documents
