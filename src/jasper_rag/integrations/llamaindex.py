"""A trained model as a LlamaIndex embedding: `pip install "jasper-rag[llamaindex]"`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
except ImportError as error:
    raise InputError("llama-index-core is not installed.", remedy='pip install "jasper-rag[llamaindex]"') from error


class JasperEmbedding(BaseEmbedding):
    """Nodes as the plain encoder embeds them, questions as JASPER searches.

    An index filled with the plain encoder's vectors can be used as it is.

    Args:
        jasper: Fitted or loaded.
        options: Of `BaseEmbedding`, such as `embed_batch_size`.
    """

    _jasper: Jasper = PrivateAttr()

    def __init__(self, jasper: Jasper, **options: Any) -> None:
        super().__init__(**{"model_name": jasper.model.identity.name, **options})
        self._jasper = jasper

    @classmethod
    def from_run(cls, run: str | Path, *, offline: bool = False, **options: Any) -> JasperEmbedding:
        """Load what `jasper fit` wrote; raises as `Jasper.load` does."""
        return cls(Jasper.load(run, offline=offline), **options)

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex stores its settings."""
        return "JasperEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._jasper.transform(self._jasper.encoder.encode([query], "query"))[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._jasper.encoder.encode(texts, "document").tolist()
        return vectors
