"""Re-exports of `jasper_rag.retrieval.gaussian_retriever`."""

from __future__ import annotations

from jasper_rag.retrieval.gaussian_retriever import GaussianRetriever as GaussianRetriever
