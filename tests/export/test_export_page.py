"""The examples of docs/export.md run as they stand."""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jasper_rag.embedding.sentence_encoder import SentenceEncoder
from jasper_rag.export.export_directory import write_export
from jasper_rag.jasper import Jasper

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
BLOCKS = dict(re.findall(r"^## ([^\n]+)\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.M | re.S))
QUESTION = "how do I rotate a log file"


@pytest.fixture(scope="module")
def workplace(bert_jasper: Jasper, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page speaks of: a run, its export, a vector database, question vectors."""
    folder = tmp_path_factory.mktemp("workplace")
    bert_jasper.save(folder / "runs" / "x" / "model")
    write_export(bert_jasper, folder / "exported")
    np.save(folder / "questions.npy", bert_jasper.encoder.encode([QUESTION], "query"))
    database = sqlite3.connect(folder / "vectors.db")
    with database:
        database.execute("CREATE TABLE documents (id TEXT, vector BLOB)")
        rows = zip(bert_jasper.model.documents, bert_jasper.model.vectors.vectors, strict=True)
        database.executemany("INSERT INTO documents VALUES (?, ?)", [(d.id, vector.tobytes()) for d, vector in rows])
    database.close()
    return folder


@pytest.fixture
def run_block(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run_block(heading)`: the names that the block below a heading leaves."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "path", [str(workplace / "exported"), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(heading: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        exec(compile(BLOCKS[heading], f"export.md: {heading}", "exec"), names)
        return names

    return run


@pytest.fixture(scope="module")
def searched(bert_jasper: Jasper, bert_encoder: SentenceEncoder) -> Any:
    return bert_jasper.transform(bert_encoder.encode([QUESTION], "query"))


def test_every_block_is_run_here() -> None:
    formats = ["Nothing in your vector database changes", "numpy", "sentence-transformers", "ONNX"]
    assert list(BLOCKS) == [*formats, "LangChain", "LlamaIndex"]


@pytest.mark.slow
def test_a_database_is_searched_as_it_is(run_block: Any, bert_jasper: Jasper) -> None:
    names = run_block("Nothing in your vector database changes")
    names["database"].close()
    assert names["found"] == [hit.document.id for hit in bert_jasper.search(QUESTION, 5, "dense")]


@pytest.mark.parametrize(("heading", "needed"), [("numpy", "numpy"), ("ONNX", "onnxruntime")])
def test_vectors_in_vectors_out(run_block: Any, searched: Any, heading: str, needed: str) -> None:
    pytest.importorskip(needed)
    np.testing.assert_allclose(run_block(heading)["search"], searched, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_texts_in_vectors_out(run_block: Any, searched: Any, bert_encoder: SentenceEncoder) -> None:
    names = run_block("sentence-transformers")
    np.testing.assert_allclose(names["search"], searched, rtol=0, atol=1e-5)
    plain = bert_encoder.encode(["logrotate rotates log files"], "document")
    np.testing.assert_allclose(names["documents"], plain, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("heading", "needed"), [("LangChain", "langchain_core"), ("LlamaIndex", "llama_index.core")])
def test_frameworks_find_something(run_block: Any, heading: str, needed: str) -> None:
    pytest.importorskip(needed)
    assert len(run_block(heading)["found"]) == 1
