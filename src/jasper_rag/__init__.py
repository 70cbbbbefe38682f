"""JASPER-RAG: learn from known questions and answers to search a frozen embedding index better, and never worse.

The public names are loaded when first used, so that importing the package stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jasper_rag.embedding.embedding_store import EmbeddingStore as EmbeddingStore
    from jasper_rag.embedding.sentence_encoder import SentenceEncoder as SentenceEncoder
    from jasper_rag.errors import InputError as InputError
    from jasper_rag.jasper import Jasper as Jasper
    from jasper_rag.jasper import SearchHit as SearchHit
    from jasper_rag.jasper_config import JasperConfig as JasperConfig
    from jasper_rag.text.readers import read_retrieval_set as read_retrieval_set
    from jasper_rag.text.records import Document as Document
    from jasper_rag.text.records import Query as Query
    from jasper_rag.text.records import RetrievalSet as RetrievalSet

__version__ = "0.1.0"

_HOMES = {
    "Document": "text.records",
    "EmbeddingStore": "embedding.embedding_store",
    "InputError": "errors",
    "Jasper": "jasper",
    "JasperConfig": "jasper_config",
    "Query": "text.records",
    "RetrievalSet": "text.records",
    "SearchHit": "jasper",
    "SentenceEncoder": "embedding.sentence_encoder",
    "read_retrieval_set": "text.readers",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
