"""A trained model as LangChain `Embeddings`: `pip install "jasper-rag[langchain]"`."""

from __future__ import annotations

from pathlib import Path

from jasper_rag.errors import InputError
from jasper_rag.jasper import Jasper

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise InputError("langchain-core is not installed.", remedy='pip install "jasper-rag[langchain]"') from error


class JasperEmbeddings(Embeddings):
    """Documents as the plain encoder embeds them, questions as JASPER searches: for any LangChain vector store.

    A store filled with the plain encoder's vectors can be used as it is.

    Args:
        jasper: Fitted or loaded.
    """

    def __init__(self, jasper: Jasper) -> None:
        self.jasper = jasper

    @classmethod
    def from_run(cls, run: str | Path, *, offline: bool = False) -> JasperEmbeddings:
        """Load what `jasper fit` wrote; raises as `Jasper.load` does."""
        return cls(Jasper.load(run, offline=offline))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Plain vectors, one of D numbers for each text."""
        vectors: list[list[float]] = self.jasper.encoder.encode(texts, "document").tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of D numbers to search with."""
        vector: list[float] = self.jasper.transform(self.jasper.encoder.encode([text], "query"))[0].tolist()
        return vector
