from __future__ import annotations

import asyncio
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
def test_nodes_are_plain_and_questions_are_moved(fitted: Jasper) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from jasper_rag.integrations.llamaindex import JasperEmbedding

    embedding = JasperEmbedding(fitted, embed_batch_size=1)
    assert isinstance(embedding, BaseEmbedding)
    assert (embedding.model_name, embedding.embed_batch_size) == ("words-0", 1)
    assert JasperEmbedding.class_name() == embedding.to_dict()["class_name"] == "JasperEmbedding"
    plain = fitted.encoder.encode(TEXTS, "document")
    np.testing.assert_allclose(embedding.get_text_embedding_batch(TEXTS), plain, atol=1e-6)
    np.testing.assert_allclose(embedding.get_text_embedding(TEXTS[1]), plain[1], atol=1e-6)
    moved = fitted.transform(fitted.encoder.encode([QUESTION], "query"))[0]
    np.testing.assert_allclose(embedding.get_query_embedding(QUESTION), moved, atol=1e-6)
    np.testing.assert_allclose(asyncio.run(embedding.aget_query_embedding(QUESTION)), moved, atol=1e-6)


@pytest.mark.slow
def test_an_index_finds_what_jasper_finds(fitted: Jasper, tmp_path: Path) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    from jasper_rag.integrations.llamaindex import JasperEmbedding

    fitted.save(tmp_path / "model")
    assert JasperEmbedding.from_run(tmp_path, offline=True).model_name == "words-0"
    nodes = [TextNode(text=document.content) for document in fitted.model.documents]
    index = VectorStoreIndex(nodes, embed_model=JasperEmbedding(fitted))
    found = [node.text for node in index.as_retriever(similarity_top_k=5).retrieve(QUESTION)]
    assert found == [hit.document.content for hit in fitted.search(QUESTION, 5, "dense")]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("llama_index", "llama_index.core", "llama_index.core.base.embeddings.base"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "jasper_rag.integrations.llamaindex", raising=False)
    with pytest.raises(InputError, match="llama-index-core is not installed") as caught:
        importlib.import_module("jasper_rag.integrations.llamaindex")
    assert caught.value.remedy == 'pip install "jasper-rag[llamaindex]"'
