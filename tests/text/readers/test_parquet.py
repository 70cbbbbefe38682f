from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jasper_rag.errors import InputError
from jasper_rag.text.readers import read_retrieval_set
from jasper_rag.text.readers.parquet import read_parquet, read_parquet_folder
from jasper_rag.text.records import Document, Query, RetrievalSet

Columns = Mapping[str, Sequence[Any]]
CORPUS: Columns = {"_id": ["d1", "d2"], "title": ["Cats", ""], "text": ["They purr.", "They bark."]}
QUERIES: Columns = {"_id": ["q1", "q2"], "text": ["who purrs?", "who barks?"]}
TRAIN: Columns = {"query-id": ["q1", "q1"], "corpus-id": ["d1", "d2"], "score": [1.0, -1.0]}
TEST: Columns = {"query-id": ["q2"], "corpus-id": ["d2"], "score": [2]}
PETS = RetrievalSet(
    "pets",
    (Document("d1", "They purr.", "Cats"), Document("d2", "They bark.")),
    (Query("q1", "who purrs?"), Query("q2", "who barks?")),
    {"train": {"q1": {"d1": 1, "d2": 0}}, "test": {"q2": {"d2": 2}}},
)
LAYOUTS: Mapping[str, Mapping[str, Columns]] = {
    "folders": {
        "corpus/corpus-00000-of-00001.parquet": CORPUS,
        "queries/queries-00000-of-00001.parquet": QUERIES,
        "qrels/train-00000-of-00001.parquet": TRAIN,
        "qrels/test-00000-of-00001.parquet": TEST,
    },
    "judgements in data": {
        "corpus/test-00000-of-00001.parquet": CORPUS,
        "queries/test-00000-of-00001.parquet": QUERIES,
        "data/train-00000-of-00001-0a1b2c.parquet": TRAIN,
        "data/test-00000-of-00001-0a1b2c.parquet": TEST,
    },
    "converted": {
        "corpus/corpus/0000.parquet": CORPUS,
        "queries/queries/0000.parquet": QUERIES,
        "default/train/0000.parquet": TRAIN,
        "default/test/0000.parquet": TEST,
    },
    "flat": {"corpus.parquet": CORPUS, "queries.parquet": QUERIES, "train.parquet": TRAIN, "test.parquet": TEST},
}


def write(path: Path, columns: Columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)
    return path


def write_all(root: Path, files: Mapping[str, Columns]) -> Path:
    for name, columns in files.items():
        write(root / name, columns)
    return root


def test_pairs(tmp_path: Path) -> None:
    columns: Columns = {
        "question": ["who?", "whose?"],
        "answer": ["me", "mine"],
        "split": ["train", "test"],
        "junk": [b"\xff"] * 2,
    }
    found = read_retrieval_set(write(tmp_path / "p.parquet", columns))
    assert found.name == "p"
    assert found.documents == (Document("d0", "me"), Document("d1", "mine"))
    assert found.qrels == {"train": {"q0": {"d0": 1}}, "test": {"q1": {"d1": 1}}}


def test_documents_with_mapped_columns(tmp_path: Path) -> None:
    bodies = pa.array(["a", "b"]).dictionary_encode()
    columns: Columns = {"nr": [7, 8], "body": bodies, "title": ["T", None]}
    path = write(tmp_path / "p.PARQUET", columns)
    found = read_retrieval_set(path, name="n", columns={"id": "nr", "document": "body"})
    assert found == RetrievalSet("n", (Document("7", "a", "T"), Document("8", "b")), ())


def test_files_named_after_splits(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00001.parquet", {"anchor": ["who?"], "positive": ["me"]})
    write(tmp_path / "data/validation-00000-of-00001.parquet", {"anchor": ["whose?"], "positive": ["mine"]})
    write(tmp_path / ".hidden/x.parquet", {"anchor": ["x"], "positive": ["x"]})
    (tmp_path / "README.md").write_text("# Pairs")
    assert read_retrieval_set(tmp_path).qrels == {"train": {"q0": {"d0": 1}}, "dev": {"q1": {"d1": 1}}}
    write(tmp_path / "data/more.parquet", {"anchor": ["where?"], "positive": ["here"]})
    assert list(read_parquet_folder(tmp_path, "n").qrels) == ["all"]


def test_files_of_documents(tmp_path: Path) -> None:
    write_all(tmp_path, {"a.parquet": {"text": ["x"]}, "b/c.parquet": {"text": ["y"], "topic": ["t"]}})
    assert read_retrieval_set(tmp_path).documents == (Document("d0", "x"), Document("d1", "y", topic="t"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_three_tables(tmp_path: Path, layout: str) -> None:
    assert read_retrieval_set(write_all(tmp_path / "pets", LAYOUTS[layout])) == PETS


def test_three_tables_in_variations(tmp_path: Path) -> None:
    write_all(tmp_path, {**LAYOUTS["folders"], "other/x.parquet": {"a": [1]}})
    # The same document in two shards; numbers as ids; judgements that are all 1.
    write(tmp_path / "corpus/test-00000-of-00001.parquet", CORPUS)
    write(tmp_path / "queries/more-00000-of-00001.parquet", {"_id": ["3"], "text": ["who?"]})
    write(tmp_path / "qrels/validation.parquet", {"query-id": [3], "corpus-id": ["d1"]})
    found = read_parquet_folder(tmp_path)
    assert found.documents == PETS.documents
    assert found.qrels["dev"] == {"3": {"d1": 1}}
    (tmp_path / "two/corpus").mkdir(parents=True)
    write_all(tmp_path / "two", {"corpus.parquet": {"id": ["1"], "text": ["x"]}, "queries.parquet": QUERIES})
    assert read_parquet_folder(tmp_path / "two").qrels == {}
    write(tmp_path / "two/qrels.parquet", {"query_id": ["q1"], "doc_id": ["1"], "score": ["1"]})
    assert read_parquet_folder(tmp_path / "two").qrels == {"all": {"q1": {"1": 1}}}


FAULTS: Mapping[str, tuple[str, Columns, str, str | None]] = {
    "unknown query": ("test", {**TEST, "query-id": ["q9"]}, "'q9' is not in queries", "query-id"),
    "unknown document": ("test", {**TEST, "corpus-id": ["d9"]}, "'d9' is not in the corpus", "corpus-id"),
    "two splits": ("test", {**TEST, "query-id": ["q1"]}, "is judged in split", "query-id"),
    "score": ("test", {**TEST, "score": [0.5]}, "not a whole number", "score"),
    "no score": ("test", {**TEST, "score": [None]}, "not a whole number", "score"),
    "endless score": ("test", {**TEST, "score": [float("inf")]}, "not a whole number", "score"),
    "nothing relevant": ("test", {**TEST, "score": [0]}, "no relevant document", "score"),
    "no judgement": ("test", {**TEST, "query-id": pa.array([], "str"), "corpus-id": pa.array([], "str"),
                              "score": pa.array([], "int8")}, "no relevant document", "score"),
    "contradiction": ("test", {"query-id": ["q2"] * 2, "corpus-id": ["d2"] * 2, "score": [1, 2]},
                      "contradicts", "score"),
    "columns": ("test", {"query-id": ["q2"]}, "no column 'corpus-id'", "corpus-id"),
    "no id": ("corpus", {"text": ["x"]}, "no column '_id'", "_id"),
    "no text": ("corpus", {"_id": ["x"]}, "no column 'text'", "text"),
    "null text": ("corpus", {**CORPUS, "text": ["x", None]}, "has no text", "text"),
    "empty document": ("corpus", {**CORPUS, "text": ["x", " "]}, "neither title nor text", "text"),
    "double id": ("corpus", {**CORPUS, "_id": ["d1", "d1"]}, "another content", "_id"),
    "empty corpus": ("corpus", {"_id": pa.array([], "str"), "text": pa.array([], "str")}, "table is empty", None),
    "empty query": ("queries", {**QUERIES, "text": ["x", ""]}, "text is empty", "text"),
    "list": ("queries", {**QUERIES, "text": [["x"], ["y"]]}, "a string is expected", "text"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_tables(tmp_path: Path, kind: str) -> None:
    part, columns, problem, field = FAULTS[kind]
    write_all(tmp_path, LAYOUTS["folders"])
    folder = "qrels" if part == "test" else part
    write(tmp_path / f"{folder}/{part}-00000-of-00001.parquet", columns)
    with pytest.raises(InputError, match=problem) as caught:
        read_retrieval_set(tmp_path)
    assert caught.value.field == field
    assert caught.value.remedy
    assert f"/{folder}" in str(caught.value.path)


def test_columns_of_three_tables_are_fixed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be mapped"):
        read_retrieval_set(write_all(tmp_path, LAYOUTS["flat"]), columns={"document": "text"})


def test_rows_are_numbered(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"text": ["x"] * 1500 + [""]})
    with pytest.raises(InputError, match=r"p\.parquet:1501 \[text\]"):
        read_parquet(path)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="does not exist"):
        read_parquet(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="no row"):
        read_parquet(write(tmp_path / "y.parquet", {"text": pa.array([], "str")}))
    with pytest.raises(InputError, match="there is no column 'body'"):
        read_parquet(write(tmp_path / "y.parquet", {"text": ["x"]}), columns={"document": "body"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.parquet file"):
        read_parquet_folder(tmp_path / "empty")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    column = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_parquet(write(tmp_path / "x.parquet", {"text": column}))


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="needs pyarrow") as caught:
        read_parquet(tmp_path / "x.parquet")
    assert 'pip install "jasper-rag[parquet]"' in caught.value.remedy


@pytest.mark.slow
def test_importing_the_readers_loads_no_library() -> None:
    program = (
        "import sys, jasper_rag.text.readers, jasper_rag.text.fetch, jasper_rag.text.chunking, "
        "jasper_rag.text.query_synthesis;"
        "sys.exit(bool({'torch', 'numpy', 'pyarrow', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=6))
def test_a_mutated_file_never_raises_anything_else(tmp_path: Path, where: float, gone: int, new: bytes) -> None:
    path = write(tmp_path / "p.parquet", {"question": ["who?", "whose?"], "answer": ["me", "mine"]})
    content = path.read_bytes()
    at = int(where * len(content))
    path.write_bytes(content[:at] + new + content[at + gone :])
    with contextlib.suppress(InputError):
        assert read_parquet(path).documents
