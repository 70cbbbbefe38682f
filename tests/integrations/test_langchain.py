from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper

TEXTS = ["car and road and stone", "film and ship and soil"]
QUESTION = "automobile or physician or road?"


@pytest.mark.slow
def test_documents_are_plain_and_questions_are_moved(fitted: Jasper) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.embeddings import Embeddings

    from jasper_rag.integrations.langchain import JasperEmbeddings

    embeddings = JasperEmbeddings(fitted)
    assert isinstance(embeddings, Embeddings)
    documents, question = embeddings.embed_documents(TEXTS), embeddings.embed_query(QUESTION)
    assert isinstance(documents[0][0], float)
    assert isinstance(question[0], float)
    encode = fitted.encoder.encode
    np.testing.assert_allclose(documents, encode(TEXTS, "document"), atol=1e-6)
    np.testing.assert_allclose(question, fitted.transform(encode([QUESTION], "query"))[0], atol=1e-6)


def test_a_vector_store_finds_what_jasper_finds(fitted: Jasper, tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.vectorstores import InMemoryVectorStore

    from jasper_rag.integrations.langchain import JasperEmbeddings

    fitted.save(tmp_path / "model")
    embeddings = JasperEmbeddings.from_run(tmp_path, offline=True)
    embeddings.jasper = Jasper.load(tmp_path, encoder=fitted.encoder)
    store = InMemoryVectorStore(embeddings)
    store.add_texts([document.content for document in fitted.model.documents])
    found = [document.page_content for document in store.similarity_search(QUESTION, k=5)]
    assert found == [hit.document.content for hit in fitted.search(QUESTION, 5, "dense")]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core", None)
    monkeypatch.setitem(sys.modules, "langchain_core.embeddings", None)
    monkeypatch.delitem(sys.modules, "jasper_rag.integrations.langchain", raising=False)
    with pytest.raises(InputError, match="langchain-core is not installed") as caught:
        importlib.import_module("jasper_rag.integrations.langchain")
    assert caught.value.remedy == 'pip install "jasper-rag[langchain]"'
